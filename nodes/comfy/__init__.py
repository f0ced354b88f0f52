"""The only folder that imports ComfyUI's internals."""
