"""Random motion over time: smooth scalar paths, and walks that stay within a region."""

import numpy as np
from numpy.random import Generator


def smooth_path(rng: Generator, moments: int, tau: float) -> np.ndarray:
    """Draws a stationary smooth path (moments,), of zero mean and unit variance; `tau` is its time scale in moments."""
    reach = int(np.ceil(3 * tau))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / tau) ** 2)
    kernel /= np.sqrt(np.sum(kernel**2))
    return np.convolve(rng.standard_normal(moments + 2 * reach), kernel, mode="valid")


def random_walk(rng: Generator, start: np.ndarray, speed: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Draws positions (moments, 2) of an object that heads for one random goal after another.

    Args:
        rng: random generator.
        start: first position (2,), pixels.
        speed: desired speed at each moment (moments,), pixels per moment.
        low, high: corners (2,) of the region that the object does not leave, pixels.
    """
    position = np.empty((len(speed), 2))
    current, goal, velocity = start.astype(float), rng.uniform(low, high), np.zeros(2)
    response = rng.uniform(0.12, 0.4)
    abrupt = rng.choice([0.0, 0.06], p=[0.75, 0.25])
    velocity = _direction(current, goal) * speed[0]
    for t, wanted in enumerate(speed):
        position[t] = current
        if np.hypot(*(goal - current)) < 4 * wanted or rng.random() < 0.03:
            goal = rng.uniform(low, high)
        velocity += response * (_direction(current, goal) * wanted - velocity) + rng.normal(0, 0.12 * wanted, 2)
        if rng.random() < abrupt:
            turn = rng.uniform(0, 2 * np.pi)
            velocity = np.array([np.cos(turn), np.sin(turn)]) * wanted * rng.uniform(1, 2.5)
        current = np.clip(current + velocity, low, high)
    return position


def _direction(start: np.ndarray, goal: np.ndarray) -> np.ndarray:
    step = goal - start
    return step / max(np.hypot(*step), 1e-6)
