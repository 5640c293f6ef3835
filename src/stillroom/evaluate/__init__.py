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
| `statistics`  | intervals, paired comparisons, verdicts                                                 |
| `running`     | sums over a corpus that comes batch by batch                                            |
"""
