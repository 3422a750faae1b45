# Every target is one command of tools/dev.py, which works without make too.
PYTHON ?= python3

.PHONY: help book test notebooks screenshots lab model assistant eyes scaling bench clean
help book test notebooks screenshots lab model assistant eyes scaling bench clean:
	@$(PYTHON) tools/dev.py $@

.DEFAULT_GOAL := help
