"""The final score of a candidate from two opinions: the language model's p_yes and the pre-ranker's score. Pure, but
for `serving`.

    score = sigmoid(a * log-odds(p_yes) + b * prior + shift)

a and b are those of a conditional logit over the lists of validation users from whom neither the adapter nor the
pre-ranker of these lists has learned, and never below 0: no candidate stands lower for being likelier, as it would
where one opinion corrects the other by what few lists happen to hold. They are learned by the likelihood of what was
taken, which also gains far down a list where no reader looks; so p_yes is heard only where the lists' NDCG@10 gains,
too, and else the prior orders alone. The shift, which orders nothing, puts the middle of those lists at one half.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.errors import InputError

NEVER = 1e-6  # p_yes at least this far from 0 and 1
LEAST = 1e-2  # weight of the standardized prior where it orders alone, lest it order nothing
PENALTY = 1e-3  # on the squared weights of the standardized opinions, of the mean loss per list


@dataclass(frozen=True)
class Blend:
    """`p_yes` and `prior` are the weights; `floor` is the prior of a candidate without one."""

    p_yes: float
    prior: float
    shift: float
    floor: float

    def score(self, p_yes: float, prior: float | None) -> float:
        """In (0, 1)."""
        opinion = self.p_yes * log_odds(p_yes) + self.prior * (self.floor if prior is None else prior) + self.shift
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, opinion))))

    @property
    def facts(self) -> dict[str, float]:
        return asdict(self)


def serving(config: Config) -> Blend | None:
    """What tune_recommender has learned; None where recommend.blend is off. InputError where it has not run."""
    if not config.recommend.blend:
        return None
    card = adapters.describe(config, "recommender")
    if card is None or config.recommend.scoring not in card.facts["blends"]:
        place = config.learned("models/adapters")
        raise InputError(f"{place}: no blend for these settings; run tune_recommender first")
    learned = card.facts["blends"][config.recommend.scoring]
    return Blend(**{field.name: learned[field.name] for field in fields(Blend)})


def blended(blend: Blend | None, p_yes: float | None, prior: float | None) -> float | None:
    """The blend's score; None without a blend, and of what the engine has not answered."""
    return None if blend is None or p_yes is None else blend.score(p_yes, prior)


@dataclass(frozen=True)
class List:
    """A user's candidates with both opinions, and which of them the user took."""

    p_yes: Sequence[float]
    priors: Sequence[float | None]
    taken: int


def log_odds(p_yes: float) -> float:
    bounded = min(max(p_yes, NEVER), 1 - NEVER)
    return math.log(bounded / (1 - bounded))


def learned(lists: Sequence[List]) -> Blend:
    """From at least one list of at least two candidates."""
    both = _fitted(lists, heard=True)
    reached = figures(both, lists)
    return both if reached["ndcg_blend"] > reached["ndcg_prior"] else _fitted(lists, heard=False)


def _fitted(lists: Sequence[List], heard: bool) -> Blend:
    """The likeliest weights; that of p_yes is 0 where it is not to be heard."""
    known = [prior for one in lists for prior in one.priors if prior is not None]
    floor = float(np.quantile(known, 0.01)) if known else 0.0
    opinions = [_opinions(one, floor) for one in lists]
    scale = np.concatenate(opinions).std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = PENALTY * float(weights @ weights), 2 * PENALTY * weights
        for one, opinion in zip(lists, opinions, strict=True):
            scores = opinion / scale @ weights
            shares = np.exp(scores - logsumexp(scores))
            total -= float(np.log(max(shares[one.taken], 1e-300))) / len(lists)
            gradient = gradient + (shares @ opinion - opinion[one.taken]) / scale / len(lists)
        return total, gradient

    bounds = [(0, None), (0, None)] if heard else [(0, 0), (LEAST, None)]
    weights = minimize(loss, [float(heard), 1.0], jac=True, method="L-BFGS-B", bounds=bounds).x / scale
    middle = float(np.median(np.concatenate([opinion @ weights for opinion in opinions])))
    return Blend(round(float(weights[0]), 6), round(float(weights[1]), 6), round(-middle, 6), round(floor, 6))


def figures(blend: Blend, lists: Sequence[List], k: int = 10) -> dict[str, float]:
    """NDCG@k of the lists by p_yes, by the prior and by the blend; an equal score counts as a better one."""
    scored = {
        "ndcg_p_yes": [np.array(one.p_yes) for one in lists],
        "ndcg_prior": [_opinions(one, blend.floor)[:, 1] for one in lists],
        "ndcg_blend": [_opinions(one, blend.floor) @ [blend.p_yes, blend.prior] for one in lists],
    }
    return {name: round(float(np.mean([_gain(*pair, k) for pair in zip(found, lists, strict=True)])), 6)
            for name, found in scored.items()}  # fmt: skip


def _gain(scores: np.ndarray, one: List, k: int) -> float:
    rank = int((scores >= scores[one.taken]).sum())
    return 1 / math.log2(rank + 1) if rank <= k else 0.0


def _opinions(one: List, floor: float) -> np.ndarray:
    """[candidates, 2]"""
    priors = [floor if prior is None else prior for prior in one.priors]
    return np.array([[log_odds(p), prior] for p, prior in zip(one.p_yes, priors, strict=True)])
