"""The torque of `controller.torque_numpy` compiled by numba: the same formula, other rounding."""

from __future__ import annotations

import numba
import numpy as np

_KP = 150.0
_KD = 2.0 * np.sqrt(_KP)
_POSTURE_KP = 10.0
_POSTURE_KD = 2.0 * np.sqrt(_POSTURE_KP)


@numba.njit(cache=True, fastmath=False)
def _lower_solve(L, b):  # noqa: ANN001, ANN202
    """Solve L y = b in place for a lower triangular L; b is (n, m)."""
    for c in range(b.shape[1]):
        for i in range(L.shape[0]):
            s = b[i, c]
            for k in range(i):
                s -= L[i, k] * b[k, c]
            b[i, c] = s / L[i, i]


@numba.njit(cache=True, fastmath=False)
def _cholesky_solve(A, b):  # noqa: ANN001, ANN202
    """Solve A y = b for a small symmetric positive definite A; overwrites both."""
    n = A.shape[0]
    for i in range(n):
        for j in range(i + 1):
            s = A[i, j]
            for k in range(j):
                s -= A[i, k] * A[j, k]
            A[i, j] = np.sqrt(s) if i == j else s / A[j, j]
    for i in range(n):
        s = b[i]
        for k in range(i):
            s -= A[i, k] * b[k]
        b[i] = s / A[i, i]
    for i in range(n - 1, -1, -1):
        s = b[i]
        for k in range(i + 1, n):
            s -= A[k, i] * b[k]
        b[i] = s / A[i, i]


@numba.njit(cache=True, fastmath=False)
def torque(x, R, q, qd, J, v, M, bias, goal_x, goal_R, rest, low, high, out):  # noqa: ANN001, ANN201
    """Write the joint torques (7,) into `out`; see `controller`."""
    e = np.empty(6)
    for k in range(3):
        e[k] = _KP * (goal_x[k] - x[k]) - _KD * v[k]
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        s = 0.0
        for k in range(3):
            s += goal_R[c, k] * R[b, k] - goal_R[b, k] * R[c, k]
        e[3 + a] = _KP * 0.5 * s - _KD * v[3 + a]
    L = np.zeros((7, 7))
    for i in range(7):
        for j in range(i + 1):
            s = M[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            L[i, j] = np.sqrt(s) if i == j else s / L[j, j]
    Y = np.empty((7, 6))
    for i in range(7):
        for c in range(6):
            Y[i, c] = J[c, i]
    _lower_solve(L, Y)
    inertia = np.empty((6, 6))
    for i in range(6):
        for j in range(i + 1):
            s = 0.0
            for k in range(7):
                s += Y[k, i] * Y[k, j]
            inertia[i, j] = s
            inertia[j, i] = s
    wrench = e.copy()
    _cholesky_solve(inertia[:3, :3].copy(), wrench[:3])
    _cholesky_solve(inertia[3:, 3:].copy(), wrench[3:])
    n = np.empty(7)
    for i in range(7):
        n[i] = _POSTURE_KP * (rest[i] - q[i]) - _POSTURE_KD * qd[i]
    z = np.zeros(6)
    for i in range(6):
        for k in range(7):
            z[i] += J[i, k] * n[k]
    _cholesky_solve(inertia, z)
    for i in range(7):
        tau = bias[i]
        for k in range(7):
            tau += M[i, k] * n[k]
        for k in range(6):
            tau += J[k, i] * (wrench[k] - z[k])
        out[i] = min(max(tau, low[i]), high[i])
