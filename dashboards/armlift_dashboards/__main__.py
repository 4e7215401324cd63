"""What `armlift dashboard` lets Streamlit run."""

from armlift_dashboards.app import main

main()
