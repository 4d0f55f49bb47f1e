# make demo         fetch CIFAR-10, train, index, serve: about five minutes on two cores, downloads aside
#   DATA=imagenette                        photographs of ten classes instead: about five minutes, too
#   IMAGES=~/Photos WEIGHTS=torchvision    your photographs, indexed with a published network: nothing is trained
#   IMAGES=folder                          your class folders, to train on
#   SOURCE=path   the dataset's archive or folder, if you have it     SERVE=0   stop before serving
# make test         the whole suite
# make lint         format, lint, types, import rules
# make docker-test  build the Docker image and try it
# make gpu          on a machine with a GPU: its tests and benchmarks, under ten minutes
PYTHON ?= python3
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export PYTHONUNBUFFERED = 1

.PHONY: demo test lint docker-test gpu browser clean
.DELETE_ON_ERROR:

# Through the environment paths arrive as they are, with spaces and quotes.
demo: export FC7_DATA := $(or $(DATA),$(FC7_DATA))
demo: export FC7_IMAGES := $(or $(IMAGES),$(FC7_IMAGES))
demo: export FC7_SOURCE := $(or $(SOURCE),$(FC7_SOURCE))
demo: export FC7_WEIGHTS := $(or $(WEIGHTS),$(FC7_WEIGHTS))
demo: .venv/ready
	@.venv/bin/python scripts/demo.py $(if $(filter 0,$(SERVE)),--no-serve)

test: .venv/ready-dev browser
	.venv/bin/pytest -q

lint: .venv/ready-dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

docker-test: .venv/ready
	@.venv/bin/python scripts/docker_test.py

# With the torch (2.11 or newer) and the other packages that the machine has: nothing is installed.
gpu:
	@PYTHONPATH="$(CURDIR):$$PYTHONPATH" $(PYTHON) scripts/gpu.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fc7 needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/ready: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing packages into .venv (torch, faiss and CUDA libraries: about 4 GB the first time)"
	$(PIP_INSTALL) --editable .
	@touch $@

.venv/ready-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) --editable .[dev]
	@touch $@ .venv/ready

# The page is tested in a real browser: the system's, Debian's package (as root), or Playwright's own download.
browser: | .venv/ready-dev
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  .venv/bin/playwright install chromium

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
