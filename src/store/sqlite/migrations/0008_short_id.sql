-- IDs are found by their first digits and by their last ones. The last are random, the first are a timestamp.

CREATE INDEX memory_by_id ON memory (project, id);
CREATE INDEX memory_by_tail ON memory (project, substr(hex(id), 25));
CREATE INDEX focus_by_tail ON focus (project, substr(hex(id), 25));
CREATE INDEX focus_archive_by_tail ON focus_archive (project, substr(hex(id), 25));
CREATE INDEX review_by_tail ON review (project, substr(hex(id), 25));
