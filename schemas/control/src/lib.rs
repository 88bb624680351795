//! Control records of a run: versions, topics, announcements, plans, results, manifests.
