"""The pages, for `streamlit run dashboards/app.py`; `armlift dashboard` does the same."""

from armlift_dashboards.app import main

main()
