"""From results to tables, figures and one page. It reads files of results, and needs neither torch nor a family.

files  ->  Results (rows.py)  ->  races (ranking.py)  ->  figures, a Markdown summary, one HTML page
"""
