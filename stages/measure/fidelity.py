"""How far reconstructions are from their images: float (N, 3, s, s) in [0, 1] -> (N,)."""

import torch
from torch import Tensor
from torch.nn import functional

# Rec. 709 weights of red, green and blue, those of scikit-image's rgb2gray.
LUMINANCE = (0.2125, 0.7154, 0.0721)
# Wang et al. weigh five scales; the fifth would leave 8 pixels for a window of 11.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363)
WINDOW_REACH = 5  # pixels from the centre of SSIM's 11 pixel window to its edge
WINDOW_DEVIATION = 1.5
K1, K2 = 0.01, 0.03
ANY_BRIGHTNESS = 1e4  # a K1 so large that SSIM's brightness term is 1
LOWEST_MSE = 1e-10


def luminance(images: Tensor) -> Tensor:
    """Brightness (N, 1, H, W) in [0, 1] of RGB images (N, 3, H, W)."""
    weights = images.new_tensor(LUMINANCE)
    return (weights @ images.flatten(2)).view(-1, 1, *images.shape[2:])


def squared_error(reconstructions: Tensor, images: Tensor) -> Tensor:
    """The paper's reconstruction error: squared error summed over the values of an image.

    "Sum of the mean squared error ... averaged over 100 input images" (Table 1): its mean over
    images is the number of the table. Lines of an image are summed in single precision.
    """
    lines = (reconstructions - images).square().sum(3)
    return lines.sum((1, 2), dtype=torch.float64)


def mean_squared_error(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Squared error, mean over the values of an image."""
    return squared_error(reconstructions, images) / images[0].numel()


def psnr(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(1 / MSE), in decibel; at most 100 dB (identical)."""
    return -10 * mean_squared_error(reconstructions, images).clamp(min=LOWEST_MSE).log10()


def ssim(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Structural similarity of luminance, -1 to 1 (Wang et al., 2004). Gaussian window of 11 pixels
    and deviation 1.5, K1 = 0.01, K2 = 0.03, averaged where the window lies within the image."""
    return _similarity(luminance(reconstructions), luminance(images), K1)


def ms_ssim(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Structural similarity of luminance over four scales, 0 to 1 (Wang et al., 2003).

    As `ssim`, at all, 1/2, 1/4 and 1/8 of the pixels of a side, at least 88: contrast and structure
    at every scale, brightness at the coarsest alone. The exponents are the first four of the five
    published, scaled to sum to 1.
    """
    after, before = luminance(reconstructions), luminance(images)
    product = torch.ones(len(images), device=images.device)
    coarsest = len(MS_SSIM_WEIGHTS) - 1
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        similarity = _similarity(after, before, K1 if scale == coarsest else ANY_BRIGHTNESS)
        product *= similarity.clamp(min=0) ** (weight / sum(MS_SSIM_WEIGHTS))
        after, before = functional.avg_pool2d(after, 2), functional.avg_pool2d(before, 2)
    return product


def _similarity(after: Tensor, before: Tensor, k1: float) -> Tensor:
    """SSIM (N,) of gray images (N, 1, H, W)."""
    x, y = after[:, 0], before[:, 0]
    distance = torch.arange(-WINDOW_REACH, WINDOW_REACH + 1, dtype=x.dtype, device=x.device)
    profile = torch.exp(-(distance / WINDOW_DEVIATION).square() / 2)
    profile = (profile / profile.sum())[None]
    window = (profile.T @ profile).expand(len(x), 1, -1, -1)
    # The images as channels of one picture: many times as fast as one after another.
    averages = functional.conv2d(
        torch.stack([x, y, x * x, y * y, x * y]), window, padding=WINDOW_REACH, groups=len(x)
    )
    mean_x, mean_y, square_x, square_y, product = averages
    means = mean_x * mean_y
    variance_x, variance_y = square_x - mean_x.square(), square_y - mean_y.square()
    variances = variance_x.clamp(min=0) + variance_y.clamp(min=0)
    upper = (2 * means + k1**2) * (2 * (product - means) + K2**2)
    lower = (mean_x.square() + mean_y.square() + k1**2) * (variances + K2**2)
    inner = slice(WINDOW_REACH, -WINDOW_REACH)
    similarity: Tensor = (upper / lower)[:, inner, inner].mean((1, 2))
    return similarity
