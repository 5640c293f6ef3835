"""What a run leaves for people to read: one page, a model card, a comparison of runs.

`write_report(run_folder)`, `write_card(run_folder)`, `compare(run_folders)`; `charts` draws for everybody.
"""

from stillroom.report.card import write_card as write_card
from stillroom.report.comparison import compare as compare
from stillroom.report.page import write_report as write_report
