# One virtual environment for everything. The first call compiles llama.cpp, some minutes on 2 cores; later ones are quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data

# An editable install knows the files that were there when it was made: it is made again when one comes or goes.
SOURCES := $(sort $(shell find ecellm_lite convert kernels -name "*.py" -o -name "*.cpp" -o -name "*.h" -o -name CMakeLists.txt))
NATIVE := $(filter %.cpp %.h %.txt,$(SOURCES))
INSTALLED := $(VENV)/installed-$(shell echo $(SOURCES) | cksum | cut -d' ' -f1)

# ggml's code for AMX loses its tile configuration in GCC's optimizer and dies of an illegal instruction (llama.cpp's
# pull request 26954): llama.cpp is built without it.
export CFLAGS += -U__AMX_INT8__
export CXXFLAGS += -U__AMX_INT8__

# Of llama.cpp only what this project uses is compiled: no vision code, tools, examples, server, tests or common library.
export CMAKE_ARGS += -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/kernels/llama_cpp.cmake

# What pip compiles and installs, in one line that changes; its log is shown if it fails.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
LOG := $(VENV)/install.log
SHOW = tee $(LOG) | awk '{ now = "" } \
  match($$0, /^ *\[[0-9]+\/[0-9]+\]/) { now = "compiling " substr($$0, RSTART, RLENGTH) } \
  /^Collecting |^ *Building |^Installing / { now = $$0 } \
  now != "" { gsub(/ +/, " ", now); printf "\r%-78.78s", now; fflush() } END { printf "\r%-78s\r", "" }'

# A Debian package of the standalone program, which `ecellm-lite bundle program` makes: make deb PROGRAM=FOLDER
PACKAGE ?= dist/ecellm-lite.deb

.PHONY: deb demo test test-rest test-all lint docs bench sanitize fuzz clean

demo: $(INSTALLED)
	$(BIN)/ecellm-lite run --task sentiment_analysis --input ecellm_lite/tasks/examples/sentiment_analysis.json

# A process for each core, and one thread in each: llama.cpp's threads would wait for each other spinning.
PYTEST := OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 $(BIN)/pytest -q -n auto --dist worksteal

test: $(INSTALLED)
	$(PYTEST) -m "not slow and not native"

# The tests that take long, and those that compile native code.
test-rest: $(INSTALLED)
	$(PYTEST) -m "slow or native"

test-all: test test-rest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.pages --check

# The tables of README.md and docs/, from benchmarks/results/.
docs: $(INSTALLED)
	$(BIN)/python -m benchmarks.pages

bench: $(INSTALLED)
	$(BIN)/python benchmarks/rows.py --data $(DATA)
	$(BIN)/python -m benchmarks.throughput --data $(DATA) $(if $(LLAMA_SERVER),--llama-server $(LLAMA_SERVER))
	for claim in grouping drafts agreement memory; do $(BIN)/python -m benchmarks.$$claim --data $(DATA) || exit 1; done
	$(BIN)/python -m pip install --quiet polars
	for claim in cold_start identity quantize tables; do $(BIN)/python -m benchmarks.$$claim || exit 1; done

# Another seed each day; the tests fuzz a little with the same one always.
sanitize: $(INSTALLED)
	ECELLM_FUZZ_CALLS=200000 ECELLM_FUZZ_SEED=$$(date +%Y%m%d) $(BIN)/pytest -q -s tests/kernels/test_native_builds.py -k sanitizers

# The hostile inputs of tests/attacks, with many more examples and another seed each time.
fuzz: $(INSTALLED)
	ECELLM_FUZZ_CALLS=20000 $(BIN)/pytest -q tests/attacks tests/convert/test_token_ids.py tests/convert/test_interruptions.py --hypothesis-seed=random

deb:
	mkdir -p "$$(dirname "$(PACKAGE)")"
	$(PYTHON) installers/deb.py $(if $(PROGRAM),"$(PROGRAM)") "$(PACKAGE)"

clean:
	rm -rf $(VENV) build dist

$(INSTALLED): pyproject.toml $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): llama.cpp is compiled for this processor, once."
	@$(BIN)/python -m pip install --quiet --upgrade pip 2> /dev/null || true
	@$(BIN)/python -m pip install --verbose --editable '.[demo,dev]' 2>&1 | $(SHOW) \
	  || { tail -40 $(LOG); echo "The whole log is $(LOG)."; exit 1; }
	rm -f $(VENV)/installed-*
	touch $@
