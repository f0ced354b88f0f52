"""The paper's studies: references and steps (Fig. 10), the adapter (Fig. 6), comparisons (Fig. 5), and the
user study (4.4).

Each draws pictures into a folder, scores them, and writes contact sheets, tables and plots. A study that was
stopped resumes where it was.
"""
