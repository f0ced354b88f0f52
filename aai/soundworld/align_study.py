"""`python -m aai.soundworld.align_study`, by the name that the model card cites."""

from .evaluate.align_study import main

if __name__ == "__main__":
    main()
