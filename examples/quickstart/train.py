"""Train a small classifier: which of two spirals does a point lie on?

One hidden layer, plain gradient descent, numpy only. It writes the weights and prints the
accuracy on points that it never saw.
"""

from __future__ import annotations

import platform

import click
import numpy as np
from tqdm import tqdm


def spirals(count: int, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``count`` noisy points in the plane, and 0 or 1 for each."""
    label = chance.integers(0, 2, count)
    turn = np.sqrt(chance.random(count)) * 1.5 * np.pi
    angle = turn + label * np.pi
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1)
    return (points + chance.normal(0, 0.2, points.shape)) / 5, label.astype(float)


def predict(weights: dict[str, np.ndarray], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hidden layer's values, and for each point how likely it lies on spiral 1."""
    hidden = np.tanh(points @ weights["in"] + weights["in_bias"])
    return hidden, 1 / (1 + np.exp(-(hidden @ weights["out"] + weights["out_bias"])))


@click.command()
@click.option("--steps", default=3000, show_default=True, help="steps of gradient descent")
@click.option("--hidden", default=32, show_default=True, help="width of the hidden layer")
@click.option("--seed", default=0, show_default=True, help="the same seed, the same model")
@click.option("--output", default="model.npz", show_default=True, help="where the weights go")
def main(steps: int, hidden: int, seed: int, output: str) -> None:
    """Train on 400 points, test on 400 others."""
    chance = np.random.default_rng(seed)
    points, labels = spirals(400, chance)
    unseen, truth = spirals(400, chance)
    weights = {
        "in": chance.normal(0, 2, (2, hidden)),
        "in_bias": chance.normal(0, 1, hidden),
        "out": chance.normal(0, 0.3, hidden),
        "out_bias": np.zeros(()),
    }
    loss = 0.0
    for _ in tqdm(range(steps), desc="training", disable=None):
        inner, likely = predict(weights, points)
        loss = float(-np.mean(np.log(np.where(labels == 1, likely, 1 - likely) + 1e-12)))
        error = (likely - labels) / len(labels)
        back = np.outer(error, weights["out"]) * (1 - inner**2)
        weights["out"] = weights["out"] - 2 * inner.T @ error
        weights["out_bias"] = weights["out_bias"] - 2 * error.sum()
        weights["in"] = weights["in"] - 2 * points.T @ back
        weights["in_bias"] = weights["in_bias"] - 2 * back.sum(axis=0)
    right = float(np.mean((predict(weights, unseen)[1] > 0.5) == truth))
    np.savez(output, **weights)
    click.echo(f"python {platform.python_version()}, numpy {np.__version__}")
    click.echo(f"after {steps} steps: loss {loss:.3f}, {right:.1%} right on unseen points")
    click.echo(f"weights written to {output}")


if __name__ == "__main__":
    main()
