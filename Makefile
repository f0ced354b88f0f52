# make demo        a sound becomes a picture: out/demo/
# make demo SERVE=1  the same, then ComfyUI stays open on the example
# make check       ruff, and the tests that need no ComfyUI, no browser and no training: two minutes
# make test        what one change can break; with ComfyUI where one is found, and a few tests in a browser
# make test-all    every test, then those of ComfyUI again with the oldest that is supported, where it is found
# make fuzz      generated inputs for all that reads something (FUZZ=N of them); make soak: an hour of use
# make browser     the tests in a browser alone: screenshots in out/browser/
#
# COMFYUI_PATH names a ComfyUI folder (else ~/comfy/ComfyUI), OLDEST that of the oldest supported version. VENV names
# another virtual environment, so that two ComfyUIs can each keep their own front end. FUZZ is the number of generated
# inputs of each kind. WORKERS is how many processes test beside each other, of one core and up to 4 GB each (2).

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN = $(VENV)/bin/python
WORKERS ?= 2
# A file's tests stay together, as they share what they make; tests/conftest.py has the long files first.
PYTEST = $(RUN) -X warn_default_encoding -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
COMFY = $(shell d="$${COMFYUI_PATH:-$$HOME/comfy/ComfyUI}"; [ -f "$$d/main.py" ] && echo "$$d")
OLDEST ?= $(HOME)/comfy/ComfyUI-0.3.64
STAMP = $(VENV)/.comfy-$(shell cat "$(COMFY)/requirements.txt" constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)

.PHONY: demo check test test-all test-everything test-comfy browser fuzz soak setup comfy bring-comfy lint

demo: bring-comfy
	@$(MAKE) --no-print-directory comfy
	$(RUN) -m aai demo $(if $(SERVE),--serve)

check: lint
	$(PYTEST) tests --tier check

test: lint comfy
	$(PYTEST) tests --tier test

test-all:
	$(MAKE) --no-print-directory test-everything
	@if [ ! -f "$(OLDEST)/main.py" ]; then echo "no ComfyUI in $(OLDEST): not tested with the oldest"; \
	  else COMFYUI_PATH="$(OLDEST)" $(MAKE) --no-print-directory VENV=.venv-old test-comfy; fi

test-everything: lint comfy
	FUZZ=$${FUZZ:-2000} $(PYTEST) tests --tier all

test-comfy: setup comfy
	$(PYTEST) tests --tier all -m "comfy or browser"

browser: setup comfy
	$(RUN) -m pytest tests/browser -rs

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (some minutes, about 5 GB)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[headless,dev,browser]"
	@touch $@

# ComfyUI's requirements go into our environment; ComfyUI itself stays as it is.
comfy: setup
	@if [ -n "$(COMFY)" ]; then $(MAKE) --no-print-directory $(STAMP); fi

$(VENV)/.comfy-%: $(VENV)/.ready
	@echo "installing the requirements of $(COMFY)"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r "$(COMFY)/requirements.txt"
	@rm -f $(VENV)/.comfy-*
	@touch $@

bring-comfy: setup
	@if [ -z "$(COMFY)" ] && [ -z "$$COMFYUI_PATH" ]; then $(RUN) -m venv $(VENV)/comfy-cli \
	  && $(VENV)/comfy-cli/bin/pip install --quiet --disable-pip-version-check comfy-cli \
	  && $(VENV)/comfy-cli/bin/comfy --skip-prompt --no-enable-telemetry install --cpu --skip-manager --skip-torch-or-directml \
	    > $(VENV)/comfy-install.log 2>&1 \
	  || echo "ComfyUI cannot be brought here (see $(VENV)/comfy-install.log): the demo runs through diffusers."; fi

# Generated inputs: FUZZ=20000 make fuzz; SEED=7 repeats those of that seed. Report: out/fuzz.json.
fuzz: setup comfy
	$(RUN) -m tests.fuzz $(or $(FUZZ),600) $(if $(SEED),--seed $(SEED))

# An hour of use: make soak SOAK="--prompts 1000 --cancels 50 --kills 40". Report: out/soak.json.
soak: setup comfy
	$(RUN) -m tests.soak $(SOAK)
