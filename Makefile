# Two commands: `make demo` runs the main job on the sample shop, `make test` passes the tests. Both set everything up.
PYTHON ?= python3
ENGINE ?= cpu
READY := .venv/.ready-$(ENGINE)

.PHONY: demo test test-all test-k8s lint docs setup clean

demo: $(READY)
	.venv/bin/mmsrarec run conf/demo.yaml

test: $(READY)
	.venv/bin/ruff check .
	.venv/bin/pytest -m "not slow and not kubernetes"

test-all: $(READY)
	.venv/bin/ruff check .
	.venv/bin/pytest -m "not kubernetes"

# Asks the cluster that KUBECONFIG names; without one it says so and skips.
test-k8s: $(READY)
	.venv/bin/pytest -m kubernetes -rs

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: $(READY)
	.venv/bin/python -m mmsrarec.documentation

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
	    { echo "Python 3.11 or 3.12 is needed; name it: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@java -version 2>&1 | grep -q 'version "\(17\|21\)' || \
	    { echo "A JDK 17 (or 21) is needed on PATH: Spark runs on it."; exit 1; }
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet uv==0.13.8
	.tools/bin/uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" .venv
	.tools/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode -e '.[$(ENGINE),dev]'
	.venv/bin/python -m mmsrarec.storage.jars
	.venv/bin/python -m mmsrarec.demo.shop build/sample_shop
	touch $@

clean:
	rm -rf .venv .tools build
