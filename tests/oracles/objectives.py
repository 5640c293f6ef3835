"""The objectives once more: slow and obvious, in float64, written from the equations and not from our code."""

import itertools
import math

import numpy as np


def softmax(logits, temperature=1.0):
    weights = [math.exp(value / temperature) for value in logits]
    return [weight / sum(weights) for weight in weights]


def kl(a, b):
    return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)


def mix(a, b, share):
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def jsd(p, q, beta):
    middle = mix(p, q, beta)
    return beta * kl(p, middle) + (1 - beta) * kl(q, middle)


def alpha_beta(p, q, alpha, beta):
    """The general formula, for exponents away from 0."""
    total = alpha + beta
    inner = [x**alpha * y**beta - alpha / total * x**total - beta / total * y**total for x, y in zip(p, q, strict=True)]
    return -sum(inner) / (alpha * beta)


# p is the teacher, q the student.
DIVERGENCES = {
    "forward_kl": lambda p, q: kl(p, q),
    "reverse_kl": lambda p, q: kl(q, p),
    "symmetric_kl": lambda p, q: (kl(p, q) + kl(q, p)) / 2,
    "total_variation": lambda p, q: sum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2,
    "soft_cross_entropy": lambda p, q: -sum(x * math.log(y) for x, y in zip(p, q, strict=True)),
    "jsd": lambda p, q: jsd(p, q, 0.5),
    "skew_forward_kl": lambda p, q: kl(p, mix(p, q, 0.1)),
    "skew_reverse_kl": lambda p, q: kl(q, mix(q, p, 0.1)),
    "alpha_beta": lambda p, q: alpha_beta(p, q, 0.2, 0.7),
}


def masked_places(mask):
    return [place for place in np.ndindex(*mask.shape) if mask[place]]


def divergence_sum(name, student, teacher, mask, temperature=1.0):
    return sum(
        DIVERGENCES[name](softmax(teacher[place], temperature), softmax(student[place], temperature))
        for place in masked_places(mask)
    )


def with_tail(probabilities, ids):
    kept = [probabilities[i] for i in ids]
    return [*kept, sum(p for i, p in enumerate(probabilities) if i not in set(ids))]


def cross_entropy_sum(logits, labels, mask, smoothing=0.0):
    total = 0.0
    for place in masked_places(mask):
        q = softmax(logits[place])
        target = [smoothing / len(q)] * len(q)
        target[labels[place]] += 1 - smoothing
        total -= sum(t * math.log(x) for t, x in zip(target, q, strict=True))
    return total


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def distance_relation(student, teacher):
    def relative(rows):
        matrix = [[math.dist(a, b) for b in rows] for a in rows]
        off_diagonal = [matrix[i][j] for i, j in itertools.permutations(range(len(rows)), 2)]
        return np.array(matrix) / (sum(off_diagonal) / len(off_diagonal))

    return np.mean([huber(x) for x in (relative(student) - relative(teacher)).flatten()])


def angle_relation(student, teacher):
    def cosine(rows, i, j, k):
        a, b = rows[j] - rows[i], rows[k] - rows[i]
        if not a.any() or not b.any():
            return 0.0
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    triples = itertools.product(range(len(student)), repeat=3)
    return np.mean([huber(cosine(student, *triple) - cosine(teacher, *triple)) for triple in triples])


def gram_relation(student, teacher, normalise):
    def gram(rows):
        if normalise == "vectors":
            rows = [row / np.linalg.norm(row) for row in rows]
        matrix = np.array([[a @ b for b in rows] for a in rows])
        if normalise == "rows":
            matrix = np.array([row / np.linalg.norm(row) for row in matrix])
        return matrix

    return ((gram(student) - gram(teacher)) ** 2).mean()


def neighbour_relation(student, teacher, temperature):
    def chances(rows, i):
        cosines = {
            j: row @ rows[i] / np.linalg.norm(row) / np.linalg.norm(rows[i]) for j, row in enumerate(rows) if j != i
        }
        weights = {j: np.exp(cosine / temperature) for j, cosine in cosines.items()}
        return {j: weight / sum(weights.values()) for j, weight in weights.items()}

    total = 0.0
    for i in range(len(student)):
        ours, theirs = chances(student, i), chances(teacher, i)
        total += sum(p * np.log(p / ours[j]) for j, p in theirs.items())
    return total


def linear_cka(x, y):
    """By cross-covariances of the features, where the library uses Gram matrices of the rows."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def attention_relation(student, teacher, mask, heads):
    """Each sequence is cut to its real tokens and worked on alone."""

    def relation(first, second, head):
        size = first.shape[1] // heads
        a, b = (side[:, head * size : (head + 1) * size] for side in (first, second))
        return [softmax(row) for row in a @ b.T / math.sqrt(size)]

    total = 0.0
    for b in range(len(mask)):
        real = [side[b][mask[b]] for side in (*student, *teacher)]
        rows = [
            kl(p, q)
            for head in range(heads)
            for p, q in zip(relation(*real[2:], head), relation(*real[:2], head), strict=True)
        ]
        total += np.mean(rows) if rows else 0.0
    return total


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def contrast(scores, right):
    """-log of the share of the right columns, for one row."""
    return -math.log(sum(math.exp(s) for s, r in zip(scores, right, strict=True) if r) / sum(map(math.exp, scores)))


def logistic(margin):
    return math.log(1 + math.exp(-margin))


def dcg(gains_in_order):
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains_in_order, start=1))


def lambda_loss(scores, gains):
    """One list. The weight of a pair is found by really swapping the two and measuring nDCG again."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    ideal = dcg(sorted(gains, reverse=True))
    total = 0.0
    for i, j in itertools.permutations(range(len(scores)), 2):
        if gains[i] > gains[j]:
            swapped = [{i: j, j: i}.get(k, k) for k in order]
            change = abs(dcg([gains[k] for k in order]) - dcg([gains[k] for k in swapped])) / ideal
            total += change * logistic(scores[i] - scores[j])
    return total


def plackett_luce(scores, ranking):
    """-log of the chance of drawing the ranking without replacement; ``scores`` holds the real candidates only."""
    left, total = dict(enumerate(scores)), 0.0
    for candidate in ranking:
        total -= math.log(math.exp(left[candidate]) / sum(math.exp(s) for s in left.values()))
        del left[candidate]
    return total


def cheapest_pairing(p, q):
    """The least sum of |p_i - q_j| over all ways to pair the ids of two vocabularies, each id once; 0 fills up."""
    size = max(len(p), len(q))
    a, b = ([*side, *[0.0] * (size - len(side))] for side in (p, q))
    return min(
        sum(abs(x - b[j]) for x, j in zip(a, order, strict=True)) for order in itertools.permutations(range(size))
    )
