"""What survived the distillation, and what it costs: quality, agreement with the teacher, calibration, speed, size.

Each module stands alone and works on tensors, arrays or texts; nothing here loads a model.

| module        | measures                                                                              |
|---------------|---------------------------------------------------------------------------------------|
| `agreement`   | student against teacher: labels, probabilities, scores, embeddings                      |
| `calibration` | whether confidence can be believed                                                      |
| `language`    | perplexity, bits per byte, next-token accuracy                                          |
| `generation`  | texts against references: ROUGE, BLEU, chrF, exact match                                |
| `retrieval`   | rankings: nDCG, MRR, recall                                                             |
| `similarity`  | vectors against people's judgements                                                     |
| `cost`        | parameters, disk, latency, memory                                                       |
| `statistics`  | intervals, paired comparisons, permutation tests, AUROC, verdicts                       |
| `isotropy`    | how evenly vectors point in all directions                                              |
| `topics`      | whether topics differ, and whether their words belong together                          |
| `semantic_entropy` | how far a model's answers to one question differ in meaning                        |
| `leakage`     | whether a benchmark was seen                                                            |
| `running`     | sums over a corpus that comes batch by batch                                            |
"""
