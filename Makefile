PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# What exports, serves and draws; development's environment does so too.
RUNTIME_READY := $(if $(wildcard $(READY)),$(READY),$(VENV)/.runtime)

# Knobs. An empty one leaves the command its own default.
BACKBONE ?= efficientnet_lite0#          what to export: a name of `make backbones`, or a .keras file
LAYERS ?=#                      layers to output, comma-separated: the last feature map
POOLING ?= none#              pool 4-D outputs: none, avg or max
WEIGHTS ?= imagenet#              imagenet, random or a weights file
PRECISION ?= float32#            float32, bfloat16, int8 or auto
CALIBRATE ?=#                   photos for int8: a directory or a glob
MODEL ?= $(basename $(notdir $(BACKBONE)))#                name of the servable
VERSION ?= 1#              version to export
MODEL_ROOT ?= build/models#           directory of all models
PORT ?= 8500#                 gRPC port of `make serve`; 0 takes a free one
REST_PORT ?= 8501#            REST port of `make serve`; 0 takes a free one, -1 none
RUNTIME ?= auto#              docker, native (tensorflow_model_server), embedded or auto
QPS ?=#                         requests per second at the peak, for plan
PRICE ?=#                       of a replica for an hour, for plan: gives the cost of a million images
ZONES ?=#                       zones that plan spreads over, one of which may be lost: 3
REPORT ?=#                      capacity report for plan; empty takes the newest in build/load
TARGET ?=#                   running server host:port for loadtest; empty starts one
SLO_MS ?=#                      p99 budget of loadtest, capacity, plan, referee and tune in milliseconds
COMPARE ?=#                     an earlier result (.json) for loadtest to compare with
MINUTES ?=#                     length of soak
NATIVE ?=#                      tensorflow_model_server for bench: a file or host:port; empty takes PATH's
LOAD_FLAGS ?=#                  anything else for loadtest, capacity, plan, referee, tune, soak or bench
EXPORT_FLAGS ?=#             anything else for featserve-export
SERVE_FLAGS ?=#              anything else for featserve-serve

LOAD := $(BIN)/python tests/load/run.py
LOAD_MODEL = --model $(MODEL) --model-root $(MODEL_ROOT)
LOAD_SERVER = $(if $(TARGET),--target $(TARGET),--runtime $(RUNTIME))
# What is measured is exported first, unless it is elsewhere, is there, or is not what BACKBONE would give.
MEASURED := $(if $(or $(TARGET),$(wildcard $(MODEL_ROOT)/$(MODEL)/*/saved_model.pb),$(filter-out $(basename $(notdir $(BACKBONE))),$(MODEL))),,export)

.DEFAULT_GOAL := help
.PHONY: help setup export serve demo test test-fast test-browser test-all-backbones test-monitoring test-interop test-hosts test-containers lint format lock proto alarms readme verify backbones bench loadtest capacity plan referee tune soak clean

help: ## list targets and knobs
	@echo 'Targets:'
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo 'Knobs, as in `make export BACKBONE=vgg16 LAYERS=block4_pool,block5_pool`:'
	@sed -nE 's/^([A-Z_]+) \?= ?([^#]*)# +(.*)/  \1|\2|\3/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-16s %-22s %s\n", $$1, $$2, $$3}'

$(READY): EXTRAS := dev
$(VENV)/.runtime: EXTRAS := export,serving,pictures
$(READY) $(VENV)/.runtime: pyproject.toml constraints.txt
	@echo 'installing featserve[$(EXTRAS)] into $(VENV): minutes, the first time'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

setup: $(READY) ## install all that development needs into .venv (each target installs what it needs by itself)

export: $(RUNTIME_READY) ## write MODEL_ROOT/MODEL/VERSION from BACKBONE; where it is there, see that it is what is asked for
	$(BIN)/featserve-export $(BACKBONE) --weights $(WEIGHTS) --pooling $(POOLING) --precision $(PRECISION) \
	  $(if $(LAYERS),--layers $(LAYERS)) $(if $(CALIBRATE),--calibrate '$(CALIBRATE)') \
	  --batching serving/configs/batching.config \
	  --model-name $(MODEL) --model-root $(MODEL_ROOT) --version $(VERSION) --if-missing $(EXPORT_FLAGS)

serve: $(RUNTIME_READY) ## serve everything under MODEL_ROOT in the foreground
	$(BIN)/featserve-serve --runtime $(RUNTIME) --model_root $(MODEL_ROOT) --port $(PORT) --rest_api_port $(REST_PORT) \
	  --monitoring_config_file serving/configs/monitoring.config $(SERVE_FLAGS)

demo: export ## photos in, activations out: export, serve, extract, draw build/demo.png
	$(BIN)/python tests/demo.py --model-root $(MODEL_ROOT) --model $(MODEL)

verify: $(READY) ## export three backbones, serve them, replay their golden activations
	$(BIN)/python tests/verify.py

test: $(READY) ## run all tests, and print their coverage
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

test-fast: $(READY) ## run the tests of the daily loop, in under two minutes
	$(BIN)/python -m pytest -m 'not slow and not long and not browser'

test-browser: $(READY) ## try the page of the console in Debian's chromium (apt-get install chromium)
	$(BIN)/python -m pytest tests/console -n 0 -m browser

readme: $(READY) ## renew the help blocks of the READMEs, and check the READMEs
	$(BIN)/python tests/readme.py

test-monitoring: $(READY) ## dashboard and alarms under a real Prometheus, where there is one
	$(BIN)/python -m pytest tests/operations/test_monitoring.py -n 0 -m slow

test-interop: $(READY) ## clients of other people and other languages, where they can be had
	$(BIN)/python -m pytest tests/operations/test_interop.py -n 0 -m slow

test-hosts: $(READY) ## the client across three hosts, in network namespaces (needs root)
	$(BIN)/python -m pytest tests/operations/test_hosts.py -n 0 -m slow

test-containers: $(READY) ## the images and containers as they are shipped, where there is an engine
	$(BIN)/python -m pytest tests/operations/test_containers.py tests/operations/test_compose.py -n 0 -m slow

alarms: $(READY) ## write the alarms of Kubernetes from serving/docker/prometheus/alarms.yml
	$(BIN)/python tests/serving/alarms/prometheus_rule.py

proto: $(READY) ## regenerate the messages
	cd export && ../$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. featserve_export/batching.proto
	cd serving && ../$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. featserve_serving/protos/config.proto
	cd client && ../$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. featserve_client/wire/serving.proto

test-all-backbones: $(READY) ## prove every backbone of the table (an hour)
	$(BIN)/python -m pytest tests/export/test_all_backbones.py -n 0 -m slow

loadtest: $(MEASURED) $(READY) ## throughput and latency at several loads, with a report in build/load
	$(LOAD) loadtest $(LOAD_MODEL) $(LOAD_SERVER) $(if $(SLO_MS),--slo-ms $(SLO_MS)) $(if $(COMPARE),--compare $(COMPARE)) $(LOAD_FLAGS)

capacity: $(MEASURED) $(READY) ## the highest rate whose p99 stays within SLO_MS
	$(LOAD) capacity $(LOAD_MODEL) $(LOAD_SERVER) $(if $(SLO_MS),--slo-ms $(SLO_MS)) $(LOAD_FLAGS)

plan: $(READY) ## replicas, headroom and cost for QPS within SLO_MS, from a capacity report; a patch for Kubernetes
	$(LOAD) plan $(if $(QPS),--qps "$(QPS)") $(if $(SLO_MS),--slo-ms "$(SLO_MS)") $(if $(PRICE),--price "$(PRICE)") $(if $(ZONES),--zones "$(ZONES)") \
	  $(if $(REPORT),--report "$(REPORT)") $(LOAD_FLAGS)

referee: $(MEASURED) $(READY) ## the same server under MLCommons LoadGen
	$(LOAD) referee $(LOAD_MODEL) $(LOAD_SERVER) $(if $(SLO_MS),--slo-ms $(SLO_MS)) $(LOAD_FLAGS)

tune: $(MEASURED) $(READY) ## search the batching for the highest capacity within SLO_MS
	$(LOAD) tune $(LOAD_MODEL) --runtime $(RUNTIME) $(if $(SLO_MS),--slo-ms $(SLO_MS)) $(LOAD_FLAGS)

soak: $(MEASURED) $(READY) ## mixed traffic for MINUTES: nothing may fail or grow
	$(LOAD) soak $(LOAD_MODEL) $(if $(MINUTES),--minutes $(MINUTES)) $(LOAD_FLAGS)

bench: $(READY) ## the tables of tests/load/RESULTS.md
	$(LOAD) bench $(if $(NATIVE),--native $(NATIVE)) $(LOAD_FLAGS)

lint: $(READY) ## check style, layers and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy client/featserve_client client/featserve_console export/featserve_export serving/featserve_serving
	MYPYPATH=tests/load $(BIN)/mypy --package featserve_load

format: $(READY) ## mend what style checks can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## renew constraints.txt from pyproject.toml
	$(BIN)/uv pip compile --upgrade --universal --no-emit-index-url --no-header --extra dev --extra spark --python-version 3.10 --quiet \
	  pyproject.toml --output-file constraints.txt

backbones: $(RUNTIME_READY) ## list what can be exported
	@$(BIN)/featserve-export --list

clean: ## delete build/
	rm -rf build
