"""Random motion over time: smooth scalar paths, and walks that stay in the picture."""

import numpy as np
from numpy.random import Generator


def smooth(rng: Generator, moments: int, tau: float) -> np.ndarray:
    """Stationary smooth path (moments,) of zero mean and unit variance that changes over about `tau` moments."""
    reach = int(np.ceil(3 * tau))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / tau) ** 2)
    kernel /= np.sqrt(np.sum(kernel**2))
    return np.convolve(rng.standard_normal(moments + 2 * reach), kernel, mode="valid")


def walk(rng: Generator, start: np.ndarray, speed: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Positions (moments, 2) of something that heads for one random place after the other.

    Args:
        start: first position (2,), pixels.
        speed: desired speed at each moment (moments,), pixels per moment.
        low, high: corners (2,) of the region it stays in, pixels.
    """
    position = np.empty((len(speed), 2))
    place, goal, velocity = start.astype(float), rng.uniform(low, high), np.zeros(2)
    grip = rng.uniform(0.12, 0.4)
    abrupt = rng.choice([0.0, 0.06], p=[0.75, 0.25])
    velocity = _towards(place, goal) * speed[0]
    for t, wanted in enumerate(speed):
        position[t] = place
        if np.hypot(*(goal - place)) < 4 * wanted or rng.random() < 0.03:
            goal = rng.uniform(low, high)
        velocity += grip * (_towards(place, goal) * wanted - velocity) + rng.normal(0, 0.12 * wanted, 2)
        if rng.random() < abrupt:
            turn = rng.uniform(0, 2 * np.pi)
            velocity = np.array([np.cos(turn), np.sin(turn)]) * wanted * rng.uniform(1, 2.5)
        place = np.clip(place + velocity, low, high)
    return position


def _towards(place: np.ndarray, goal: np.ndarray) -> np.ndarray:
    step = goal - place
    return step / max(np.hypot(*step), 1e-6)
