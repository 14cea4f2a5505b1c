# make quickstart   set everything up and run the main job: tables, report, videos
# make test         set everything up and run the checks: ruff, pyright, pytest
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install quickstart test gl browser clean

install: $(VENV)/.installed gl

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("vla-bench needs Python 3.11 to 3.13, this is " + sys.version.split()[0]) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,openvla,octo,diffusion,quantization,query,ray,slurm,robosuite,interop]'
	# asks for numpy < 2, and works without
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps openpi-client
	touch $@

# Pictures without a display need OSMesa or EGL from the system.
gl: $(VENV)/.installed
	@$(BIN)/python -m vla_bench.sim.opengl >/dev/null 2>&1 || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq libosmesa6 >/dev/null; \
	  fi; }
	@$(BIN)/python -m vla_bench.sim.opengl

quickstart: install
	@study=quick; $(BIN)/python -c 'from vla_bench import catalog; catalog.libero_root()' 2>/dev/null && study=quick_libero; \
	out=results/$$($(BIN)/python -c 'import sys; from vla_bench.run.study import load_study; print(load_study(sys.argv[1]).folder_name)' $$study) \
	&& $(BIN)/vla-bench run $$study --out $$out && $(BIN)/vla-bench report $$out --html \
	&& echo "videos: $$(ls $$out/videos/*.mp4 | wc -l) in $$out/videos"

# The page is tested in a browser.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  fi; } || true
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  echo "no chromium: the page is not tested in a browser (apt-get install chromium)"

test: install browser
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || export VLA_BENCH_NO_BROWSER=1; \
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
