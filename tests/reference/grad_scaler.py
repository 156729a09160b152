"""The scales that torch's GradScaler goes through for the overflows of crate/src/train/scaler.rs's test.

    .paddock/reference/bin/python tests/reference/grad_scaler.py
"""

import torch

OVERFLOWS = (0, 1, 1500, 5999)

scaler = torch.amp.GradScaler("cpu")
weight = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([weight], lr=0.1)
scales = [scaler.get_scale()]
for step in range(6010):
    optimizer.zero_grad()
    scaler.scale(weight.sum()).backward()
    if step in OVERFLOWS:
        weight.grad.fill_(float("inf"))
    scaler.step(optimizer)
    scaler.update()
    if scaler.get_scale() != scales[-1]:
        scales.append(scaler.get_scale())
print(scales, scaler.state_dict())
