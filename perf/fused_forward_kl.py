"""See fused_loss.py."""

from fused_loss import figure
from versus import main

if __name__ == "__main__":
    main(figure("forward_kl"))
