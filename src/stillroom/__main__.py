"""``python -m stillroom``, and so ``accelerate launch -m stillroom distill recipe.yaml`` on several processes."""

from stillroom.cli.app import main

if __name__ == "__main__":
    main()
