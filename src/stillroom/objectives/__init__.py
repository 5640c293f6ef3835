"""Losses as pure functions of tensors: student first, teacher second, a required mask, ``Reduced(sum, count)`` back.

A half-precision tensor is worked on in float32. What lies outside a mask reaches neither value nor gradient, and an
empty mask gives an exact 0 that can be differentiated. Nothing is detached.
"""

from stillroom.objectives.attention_relations import attention_relation as attention_relation
from stillroom.objectives.attention_relations import relation_scores as relation_scores
from stillroom.objectives.contrastive import info_nce as info_nce
from stillroom.objectives.contrastive import sigmoid_pairs as sigmoid_pairs
from stillroom.objectives.contrastive import softmax_contrast as softmax_contrast
from stillroom.objectives.contrastive import two_sided_info_nce as two_sided_info_nce
from stillroom.objectives.divergence import Divergence as Divergence
from stillroom.objectives.divergence import alpha_beta as alpha_beta
from stillroom.objectives.divergence import forward_kl as forward_kl
from stillroom.objectives.divergence import jsd as jsd
from stillroom.objectives.divergence import mixture as mixture
from stillroom.objectives.divergence import named as named
from stillroom.objectives.divergence import reverse_kl as reverse_kl
from stillroom.objectives.divergence import skew_forward_kl as skew_forward_kl
from stillroom.objectives.divergence import skew_reverse_kl as skew_reverse_kl
from stillroom.objectives.divergence import soft_cross_entropy as soft_cross_entropy
from stillroom.objectives.divergence import symmetric_kl as symmetric_kl
from stillroom.objectives.divergence import total_variation as total_variation
from stillroom.objectives.features import cosine_distance as cosine_distance
from stillroom.objectives.features import cosine_distance_rows as cosine_distance_rows
from stillroom.objectives.features import mse as mse
from stillroom.objectives.features import mse_rows as mse_rows
from stillroom.objectives.features import normalised_mse as normalised_mse
from stillroom.objectives.features import normalised_mse_rows as normalised_mse_rows
from stillroom.objectives.features import smooth_l1 as smooth_l1
from stillroom.objectives.features import smooth_l1_rows as smooth_l1_rows
from stillroom.objectives.logits import divergence_loss as divergence_loss
from stillroom.objectives.logits import divergence_rows as divergence_rows
from stillroom.objectives.logits import divergence_topk as divergence_topk
from stillroom.objectives.logits import divergence_topk_rows as divergence_topk_rows
from stillroom.objectives.logits import masked_log_probs as masked_log_probs
from stillroom.objectives.metric import triplet as triplet
from stillroom.objectives.preference import dpo as dpo
from stillroom.objectives.preference import ipo as ipo
from stillroom.objectives.preference import plackett_luce as plackett_luce
from stillroom.objectives.preference import preference_hinge as preference_hinge
from stillroom.objectives.ranking import lambda_loss as lambda_loss
from stillroom.objectives.ranking import listwise_kl as listwise_kl
from stillroom.objectives.ranking import margin_mse as margin_mse
from stillroom.objectives.ranking import ordered_pairs as ordered_pairs
from stillroom.objectives.ranking import pairwise_hinge as pairwise_hinge
from stillroom.objectives.ranking import pairwise_logistic as pairwise_logistic
from stillroom.objectives.ranking import rank_hinge as rank_hinge
from stillroom.objectives.ranking import ranknet as ranknet
from stillroom.objectives.ranking import score_mse as score_mse
from stillroom.objectives.relations import angle_relation as angle_relation
from stillroom.objectives.relations import cka_relation as cka_relation
from stillroom.objectives.relations import distance_relation as distance_relation
from stillroom.objectives.relations import gram_relation as gram_relation
from stillroom.objectives.relations import linear_cka as linear_cka
from stillroom.objectives.rows import in_float32 as in_float32
from stillroom.objectives.rows import products as products
from stillroom.objectives.rows import select as select
from stillroom.objectives.rows import spread as spread
from stillroom.objectives.sequence import cross_entropy as cross_entropy
from stillroom.objectives.sequence import row_means as row_means
from stillroom.objectives.sequence import sequence_log_prob as sequence_log_prob
from stillroom.objectives.sequence import sequence_mean as sequence_mean
from stillroom.objectives.sequence import token_log_probs as token_log_probs
from stillroom.objectives.transport import sorted_l1 as sorted_l1
from stillroom.objectives.transport import sorted_l1_rows as sorted_l1_rows
