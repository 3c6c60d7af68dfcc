"""Door: pictures in, deblurred pictures out. The work is in unblur.cli.deblur_images."""

from unblur.cli.deblur_images import main

if __name__ == "__main__":
    raise SystemExit(main())
