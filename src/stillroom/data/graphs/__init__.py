"""Graphs: node features and edges in one file, real graphs whose nodes have texts, and splits that do not leak.

`Graph` is what a model of nodes or links reads, with rows that name its nodes. `imports_of` (modules of the installed
packages and what they import) and `wordnet_nouns` (meanings, what they are kinds or parts of) are text graphs: nodes
with a name, a text and a class. `hashed_words` and `sentence_vectors` make features of the texts.
"""

from stillroom.data.graphs.features import hashed_words as hashed_words
from stillroom.data.graphs.features import sentence_vectors as sentence_vectors
from stillroom.data.graphs.graph import Graph as Graph
from stillroom.data.graphs.splits import Links as Links
from stillroom.data.graphs.splits import Nodes as Nodes
from stillroom.data.graphs.splits import split_links as split_links
from stillroom.data.graphs.splits import split_nodes as split_nodes
from stillroom.data.graphs.worlds import TextGraph as TextGraph
from stillroom.data.graphs.worlds import imports_of as imports_of
from stillroom.data.graphs.worlds import wordnet_nouns as wordnet_nouns
