"""PSNR, SSIM, quantiles and the stopwatch: functions of arrays and callables."""
