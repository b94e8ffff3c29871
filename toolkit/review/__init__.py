"""
Reading conflict logs: who lost to whom, on which key, what it cost, what to change.

Knows the event schema (``schema``) and nothing else of the toolkit. One streaming pass (``engine``), bounded memory;
``report.write(files, output)`` makes the HTML report.
"""
