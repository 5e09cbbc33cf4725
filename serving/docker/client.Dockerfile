# From the repository's root:
#   docker build -f serving/docker/client.Dockerfile -t featserve-client .   the command `featserve`, with its metrics page
ARG PYTHON_IMAGE=python
ARG PYTHON_TAG=3.13.7-slim

FROM ${PYTHON_IMAGE}:${PYTHON_TAG} AS build
COPY . /src
RUN python -m venv /opt/featserve \
    && /opt/featserve/bin/pip install --no-cache-dir --constraint /src/constraints.txt "/src[prometheus]"

FROM ${PYTHON_IMAGE}:${PYTHON_TAG} AS client
COPY --from=build /opt/featserve /opt/featserve
ENV PATH=/opt/featserve/bin:$PATH
# What `featserve watch --remember` writes; everything else may be read-only.
RUN install -d -o 10001 -g 10001 /var/lib/featserve
USER 10001:10001
# The metrics of `featserve watch`.
EXPOSE 9464
# In exec form: process 1 is the command itself, so SIGTERM reaches it.
ENTRYPOINT ["featserve"]
