# Everything that a newcomer needs; `make help` lists it.
#
# The environment is .venv, created from the locks with uv: the one on the PATH, or one installed into .uv.

.DEFAULT_GOAL := help
.PHONY: help run test test-spark spark-env test-quarter test-crashes test-divisions test-stack fuzz status maintain stop clean lint format lock docs docs-reference bench soak up down stack logs user land serve upkeep backup restore bench-intake bench-decision bench-image bench-stack bench-review statistics screenshots sample
SHELL := /bin/bash

# The first that works and has a version that the locks support. A name on the PATH may be a shim that does not work.
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(IN_RANGE)' 2>/dev/null && { command -v $$p; break; }; done),python3)
UV := $(shell command -v uv || echo .uv/bin/uv)
CHURN := .venv/bin/churn
DAYS ?= 180
# Number of test processes: one more than cores, because they often wait for servers; each further one has servers of its own to start.
JOBS ?= 3
COVERED = --cov=include/churn --cov-branch --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_FLOOR)
# Branch coverage that include/churn must reach, in percent.
COVERAGE_FLOOR := 93
COMPILE := $(UV) pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 --quiet
# The packages of own candidates, if there are any: see docs/pages/your-own-model.md.
EXTRA_LOCK := $(wildcard requirements-extra.lock)
install_extra = $(if $(EXTRA_LOCK),$(UV) pip install --quiet --no-deps --require-hashes --compile-bytecode --python $(1) --requirements $(EXTRA_LOCK),true)

# Bytecode makes every import in every task three times as fast, but some machines switch it off.
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/run $(if $(filter spark,$(SPREAD)),.venv/spark/installed) ## Set up, start the services, run the next nightly files (DATA=file.csv NIGHTS=3 for your own file, SPREAD=spark, VERBOSE=1).
	@$(if $(SPREAD),CHURN_SPREAD=$(SPREAD)) $(CHURN) local run $(if $(DATA),--data "$(DATA)") $(if $(NIGHTS),--nights $(NIGHTS)) $(if $(VERBOSE),--verbose)

test: .venv/dev $(if $(shell command -v java),.venv/spark/installed) ## Run the tests (COVERAGE=1 measures branch coverage); the long ones are test-stack and test-crashes.
	@.venv/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),$(COVERED)) $(ARGS)

test-stack: .venv/dev ## Attack the stack: faults, scale, browser. Half an hour, with a container engine.
	@.venv/bin/python -m pytest -m stack tests/stack $(ARGS)

test-quarter: .venv/dev ## Take thirteen weekly files through the DAGs, with the clock moved week by week; some minutes.
	@.venv/bin/python -m pytest -s -m quarter tests/dags/test_quarter.py $(ARGS)

test-crashes: .venv/dev ## Kill the pipeline after each write, and clear each task with what follows; `make test` does both for a fixed sample.
	@TEST_CRASHES=all .venv/bin/python -m pytest -k "killed_after or cleared_task" tests/integration tests/dags $(ARGS)

test-divisions: .venv/dev ## Run the tests of intake, snapshots and decisions on one core and on two, with whole files and with tiny parts.
	@for division in whole-1 whole-2 tiny-1 tiny-2; do echo "$$division"; TEST_DIVISION=$$division .venv/bin/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		tests/unit/intake tests/unit/learning/test_snapshot.py tests/unit/learning/test_snapshot_parts.py tests/unit/decision tests/integration/test_night.py tests/integration/test_evidence.py tests/integration/test_replay.py $(ARGS) || exit 1; done

test-spark: .venv/dev .venv/spark/installed ## Run the tests of intake, snapshots, decisions and scoring on a Spark cluster of two workers, and its faults; needs Java 17.
	@TEST_DIVISION=spark .venv/bin/python -m pytest -q tests/unit/intake tests/unit/learning/test_snapshot.py tests/unit/learning/test_snapshot_parts.py tests/unit/learning/test_panels.py \
		tests/unit/decision tests/unit/scoring tests/integration/test_night.py tests/integration/test_evidence.py tests/integration/test_replay.py tests/integration/test_score_list.py -k "not killed_after" $(ARGS)
	@.venv/bin/python -m pytest -q -m "spark or not spark" tests/integration/test_spark.py tests/integration/test_spark_faults.py $(ARGS)

fuzz: .venv/dev ## Give odd input to all readers, the service, the review and the trigger forms (CASES=100000 SEED=1 ONLY="csv http"); hours.
	@PYTHONPATH=tests .venv/bin/python benchmarks/fuzz.py $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(ARGS)

spark-env: .venv/run ## Pack the environment for executors of a cluster without our image: var/spark-env.tar.gz.
	@$(UV) venv --quiet --clear --relocatable --python $(PYTHON) var/spark-env
	@$(UV) pip sync --quiet --require-hashes --compile-bytecode --python var/spark-env requirements.lock
	@$(call install_extra,var/spark-env)
	@$(UV) pip install --quiet --no-deps --python var/spark-env .
	@tar -C var/spark-env -czf var/spark-env.tar.gz .
	@echo "Wrote var/spark-env.tar.gz. See docs/pages/operations/scaling-out.md for how executors use it; the same Python must be installed on their machines."

status: .venv/run ## Show what is in production, and what is running (VERBOSE=1).
	@$(CHURN) status $(if $(VERBOSE),--verbose)

maintain: .venv/run ## Delete what is no longer needed, and Airflow's history older than DAYS=180 days.
	@$(CHURN) maintain --yes
	@[ ! -e var/airflow/airflow.db ] || AIRFLOW_HOME=$(CURDIR)/var/airflow AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:///$(CURDIR)/var/airflow/airflow.db \
		.venv/bin/airflow db clean --yes --skip-archive --clean-before-timestamp "$$(date -u -d '-$(DAYS) days' +%FT%TZ)"

stop: ## Stop the services that `make run` started.
	@if [ -x $(CHURN) ]; then $(CHURN) local stop; else echo "Nothing was set up yet."; fi

clean: stop ## Stop the services and delete all their data, which cannot be undone; the environment is kept.
	rm -rf var data/landing data/originals data/accepted data/quarantine data/snapshots data/docs data/decisions data/scores data/populations data/outcomes data/unfinished

lint: .venv/dev ## Check style, types, layers, spelling, wording and the generated reference.
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/codespell
	.venv/bin/python -m pytest -q tests/unit/test_wording.py
	.venv/bin/python docs/reference.py --check
	.venv/bin/yamllint --strict .
	.venv/bin/hadolint include/stack/Dockerfile include/churn/serving/Dockerfile tests/stack/Dockerfile

format: .venv/dev ## Format the code.
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lock: $(UV) ## Update the locks from pyproject.toml, or lock packages for own candidates (EXTRA="lightgbm").
ifdef EXTRA
	@printf '%s\n' $(foreach package,$(EXTRA),'$(package)') | $(COMPILE) --custom-compile-command 'make lock EXTRA="$(EXTRA)"' - -c requirements.lock -o requirements-extra.lock $(ARGS)
	@echo "Wrote requirements-extra.lock. The next make run or make test installs it. Keep it in git with your module."
else
	$(COMPILE) --custom-compile-command "make lock" pyproject.toml -o requirements.lock $(ARGS)
	$(COMPILE) --custom-compile-command "make lock" pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock $(ARGS)
	$(COMPILE) --custom-compile-command "make lock" --group serving -c requirements.lock -o requirements-serving.lock $(ARGS)
	$(COMPILE) --custom-compile-command "make lock" --group spark -c requirements.lock -o requirements-spark.lock $(ARGS)
	@if [ -e requirements-extra.lock ]; then echo "requirements-extra.lock was made for the earlier pins. Run:"; sed -n 's/^# *make lock EXTRA=/make lock EXTRA=/p' requirements-extra.lock; fi
endif

docs: .venv/dev docs-reference ## Build the documentation into var/docs; a broken link or an unlisted page is an error.
	@.venv/bin/python docs/build.py

docs-reference: .venv/dev ## Write the reference pages and .env.example.
	@.venv/bin/python docs/reference.py

bench: .venv/dev ## Measure WHAT=nightly-run, intake, decision, image, registered-model, scores, outcomes, spark, stack, review, load, learning or error-rates (ARGS="...").
	@PYTHONPATH=tests .venv/bin/python benchmarks/$(subst -,_,$(or $(WHAT),nightly-run)).py $(ROWS) $(ARGS)

soak: .venv/dev ## Take a month of nights in a row, with all that goes wrong in one, and compare it with benchmarks/soak/month.md (NIGHTS=30; STACK=1: ten on the stack).
	@PYTHONPATH=tests:benchmarks .venv/bin/python -m soak --nights $(or $(NIGHTS),30) $(if $(STACK),--stack) $(ARGS)

up: ## Start the stack of docker-compose.yaml, or update it to this checkout (WORKERS=3, SPARK=1).
	@include/stack/stack.sh up

down: ## Stop the stack; its data is kept.
	@include/stack/stack.sh down

stack: ## On the stack: DO=logs, user, land, serve, maintain, backup or restore.
	@include/stack/stack.sh $(DO)

# Earlier names, which still work.
logs user land serve upkeep backup restore:
	@include/stack/stack.sh $@

bench-intake bench-decision bench-image bench-stack bench-review:
	@$(MAKE) --no-print-directory bench WHAT=$(@:bench-%=%)

statistics:
	@$(MAKE) --no-print-directory bench WHAT=error-rates

screenshots: .venv/dev
	@PYTHONPATH=tests .venv/bin/python docs/take_screenshots.py

sample: .venv/run
	@$(CHURN) sample

# Two stamps: what `make run` needs, and what tests and checks need in addition.
.venv/run: requirements.lock pyproject.toml $(EXTRA_LOCK) | $(UV)
	@$(MAKE) --no-print-directory .venv/made
	@if [ ! -e .venv/dev ]; then $(UV) pip sync --quiet --require-hashes --compile-bytecode --python .venv requirements.lock; fi
	@$(call install_extra,.venv)
	@$(UV) pip install --quiet --no-deps --python .venv --editable .
	@touch $@

# Apart from the others: MLflow imports Spark wherever it finds it, which takes each process half a second.
.venv/spark/installed: requirements-spark.lock | .venv/made
	@echo "Installing Spark, half a gigabyte. This happens once."
	@rm -rf .venv/spark
	@$(UV) pip install --quiet --no-deps --require-hashes --python .venv --target .venv/spark --requirements requirements-spark.lock
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml $(EXTRA_LOCK) | $(UV)
	@$(MAKE) --no-print-directory .venv/made
	@$(UV) pip sync --quiet --require-hashes --compile-bytecode --python .venv requirements-dev.lock
	@$(call install_extra,.venv)
	@$(UV) pip install --quiet --no-deps --python .venv --editable .
	@touch .venv/run $@

.venv/made: | $(UV)
	@$(PYTHON) -c '$(IN_RANGE)' || { echo "Python 3.11, 3.12 or 3.13 is required, and $(PYTHON) is another version. Install one, or name it: make run PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Creating .venv from the locks. This happens once, and takes a minute or two."
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv
	@touch $@

.uv/bin/uv:
	@$(PYTHON) -m venv .uv 2>/dev/null || { rm -rf .uv; echo "Python's venv module is missing. Install it (Debian, Ubuntu: apt-get install python3-venv), then run make again."; exit 1; }
	@.uv/bin/pip install --quiet --disable-pip-version-check uv
