"""A notebook with everything that a PDF has to cope with, made without running a kernel."""

import base64
import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

TEXT = r"""# 01 · Two pictures in one: separate a digit from a garment
[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)

The mixture is $x = \tfrac{a+b}{2}$, with *a digit* $a$ and **a garment** $b$; we ask for both. It takes ~4 minutes, or
~1 hour, see [the results](#Results), `helpers/models/` and [the paper](https://arxiv.org/abs/1312.6114):
- first the dense network: $q_\phi(z \mid x) = \mathcal{N}\!\left(\mu_\phi(x), \operatorname{diag}\sigma^2(x)\right)$
- then the convolutional one
  - with a mean and a variance for every pixel
1. a numbered item: β = 0.5 → μ ± σ², 28×28 px, ŝ ≈ s, ∑ ∈ ≤ ✓ ⊙
2. another one

## The evidence lower bound
$$
\log p_\theta(x) \;\ge\; \underbrace{\mathbb{E}_{q_\phi(z \mid x)}\bigl[\log p_\theta(x \mid z)\bigr]}
_{\text{reconstruction}}
- \beta\, \underbrace{\mathrm{KL}\!\left(q_\phi(z \mid x)\,\|\,\mathcal{N}(0, I)\right)}_{\text{regularisation}}
$$

The divergence of two Gaussians has a closed form, and the sample is written as $z = \mu + \sigma \odot \varepsilon$:

$$\begin{aligned}
\mathrm{KL} &= \frac{1}{2} \sum_{j=1}^{d} \left( \mu_j^2 + \sigma_j^2 - \log \sigma_j^2 - 1 \right) \\
\hat{a} &= \mu_a + \frac{\sigma_a^2}{\sigma_a^2 + \sigma_b^2} \left( 2x - \mu_a - \mu_b \right), \qquad
\hat{\mathbf{b}} = 2\mathbf{x} - \hat{\mathbf{a}}
\end{aligned}$$

\begin{align}
\mathcal{L}_1 &= \lVert x - \hat{x} \rVert_1 \label{eq:one} \\
\theta^\star &= \operatorname*{arg\,min}_\theta \; \mathbb{E}_{p(x)} \left[ -\log p_\theta(x) \right], \quad
\boldsymbol{\mu} \in \mathbb{R}^{d}, \quad \bar{x} = \begin{cases} x & x > 0 \\ 0 & \text{otherwise} \end{cases} \tag{2}
\end{align}
"""

MORE = r"""### Results in words
| model | MSE | PSNR in dB |
|:------|----:|-----------:|
| dense VAE, $\beta = 1$ | $1.2 \times 10^{-2}$ | 19.1 |
| U-Net | $3.0 \times 10^{-4}$ | 35.2 |

> A quotation: what we learnt.

<details><summary>Solution</summary>

The <b>answer</b> lies in H<sub>2</sub>O.<br>A second line.

</details>

```python
def quoted(code):
    return "in a Markdown cell"
```

![A caption: the residual is shared in proportion to $\sigma^2$](attachment:dot.png)
"""

CODE = '''"""A docstring with β, μ, σ², × and →."""
import torch
from torch import nn


def reparameterise(mean, log_variance):
    """Return a sample of N(mean, exp(log_variance)) that lets gradients pass: z = μ + σ·ε."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)  # a remark that ends just at column 120, here
print(f"{'a line of more than one hundred and twenty columns goes on, and on, and on':>90}", "until it is", "end")'''


def picture(width=9.0, height=3.2):
    """Return a figure as PNG bytes, as a notebook holds it."""
    figure = Figure(figsize=(width, height), dpi=100)
    left, right = figure.subplots(1, 2)
    left.plot(np.linspace(0, 1, 50) ** 2, label="validation")
    left.set(xlabel="epoch", ylabel="loss in nats")
    left.legend()
    right.imshow(np.random.default_rng(0).random((28, 28)), cmap="gray")
    png = io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight")
    return png.getvalue()


def _shown(text="<object>", **data):
    return new_output("display_data", data={"text/plain": text, **data})


def sample_notebook():
    """Return the notebook."""
    png = base64.encodebytes(picture()).decode()
    small = base64.b64encode(picture(1.2, 0.6)).decode()
    rows = {"MSE (×10⁻³)": ["12.1 [12.0, 12.3]", "0.31 [0.30, 0.32]"], "PSNR in dB": [19.17, 35.2], "seed": [0, 0]}
    table = pd.DataFrame(rows, index=["dense VAE", "U-Net"])
    garments = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
    wide = pd.DataFrame(np.random.default_rng(0).random((10, 20)).round(5), columns=garments * 2)
    styled = table.style.format(precision=1).set_caption("Table 1: what each step gains")
    audio = f'<audio controls><source src="data:audio/mp3;base64,{"QUJD" * 300}" type="audio/mp3"></audio>'
    players = f"<table><tr><th>mixture</th><th>voice</th></tr><tr><td>{audio}</td><td>{audio}</td></tr></table>"
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0123abcd", "version_major": 2}}
    log = "".join(f"\x1b[32mepoch {n:3}\x1b[0m  train 0.{400 - n}  validation 0.{420 - n}\n" for n in range(60))
    progress = "".join(f"\r{n} % of the file" for n in range(0, 101, 20)) + "\n"
    outputs = {
        "stream": [new_output("stream", name="stdout", text=log)],
        "progress": [
            new_output("stream", name="stdout", text=progress + "word " * 60 + "x" * 200),
            new_output("stream", name="stderr", text="UserWarning: something was \x1b[1;31mnot\x1b[0m as it should\n"),
        ],
        "figure": [_shown("<Figure size 900x320 with 2 Axes>", **{"image/png": png})],
        "table": [_shown(str(table), **{"text/html": table.to_html()})],
        "styled": [_shown("<pandas Styler at 0x7f>", **{"text/html": styled.to_html()})],
        "wide": [_shown(str(wide), **{"text/html": f"<style scoped>td {{}}</style>{wide.to_html()}"})],
        "audio": [_shown("<IPython.lib.display.Audio object>", **{"text/html": audio})],
        "players": [_shown("<HTML object>", **{"text/html": players})],
        "widget": [_shown("IntSlider(value=7)", **widget)],
        "markdown": [_shown("<Markdown>", **{"text/markdown": "**Chosen:** $\\beta = 0.5$, warm-up of 5 epochs."})],
        "value": [new_output("execute_result", data={"text/plain": "tensor([0.1000, 0.2000])"}, execution_count=9)],
        "error": [new_output("error", ename="ValueError", evalue="no", traceback=["\x1b[31mValueError\x1b[0m: no"])],
    }
    cells = [new_markdown_cell(TEXT), new_code_cell(CODE, execution_count=1)]
    for number, (name, content) in enumerate(outputs.items(), 2):
        cells.append(new_code_cell(f"{name}_of(model)  # {name}", outputs=content, execution_count=number))
    cells.append(new_markdown_cell(MORE, attachments={"dot.png": {"image/png": small}}))
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"0123abcd": {"model_name": "IntSliderModel"}}}}
    return new_notebook(cells=cells, metadata={"widgets": state})
