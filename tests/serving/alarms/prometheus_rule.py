"""Writes the Kubernetes object of the alarms from the rule file: `python tests/serving/alarms/prometheus_rule.py`."""

from pathlib import Path

SERVING = Path(__file__).parents[3] / "serving"
RULES = SERVING / "docker" / "prometheus" / "alarms.yml"
OBJECT = SERVING / "kubernetes" / "components" / "alarms" / "prometheus-rule.yaml"
HEAD = """\
# Made by `make alarms` from serving/docker/prometheus/alarms.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: featserve
  labels:
    # The label that kube-prometheus-stack selects by: the name of its Helm release.
    release: kube-prometheus-stack
spec:
"""


def written() -> str:
    """Returns the object: the rule file is its specification."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    rules = lines[lines.index("groups:") :]
    return HEAD + "".join(f"  {line}\n" if line else "\n" for line in rules)


if __name__ == "__main__":
    OBJECT.write_text(written(), encoding="utf-8")
