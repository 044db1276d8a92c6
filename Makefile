# make run        set up, fetch the default weights, open the web page
# make test       set up, fetch the default weights, run all tests
# make notebooks  set up, open the notebooks in JupyterLab
# make outputs    run all notebooks and store what they show

PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed

.PHONY: run test notebooks outputs weights

run: weights
	$(PY) app.py

# what needs a browser by itself: it takes a processor of its own, and people do not click on a machine that has none left
test: weights
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not browser"
	$(PY) -m pytest -m browser

# figures are drawn by JupyterLab itself, from no network; nobody needs to hear that a progress bar is a plain one
notebooks: weights
	PYTHONPATH="$(CURDIR)" PLOTLY_RENDERER=plotly_mimetype PYTHONWARNINGS=ignore:IProgress $(PY) -m jupyter lab notebooks

outputs: weights
	$(PY) -m tests.outputs

weights: $(STAMP)
	$(PY) -m mam.fetch

# torch first and by itself: an index that offers a CPU build is then taken at its word, and whatever depends on
# torch finds it installed
$(STAMP): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mam needs Python 3.11 or newer")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install "$$(grep '^torch==' requirements.txt)"
	$(PY) -m pip install -r requirements.txt
	touch $@
