package failover

import (
	"testing"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	pure "understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// What members report beyond the limit must not be recorded again after it was deleted: three members tell of more
// takeovers than are kept, and the record would be made and deleted for ever.
func TestOldTakeoversAreNotRecordedAgain(t *testing.T) {
	var reported []wire.Takeover
	for epoch := 30; epoch <= 60; epoch++ {
		reported = append(reported, wire.Takeover{Epoch: pure.Epoch(epoch)})
	}
	oldest := oldestKept(nil, reported)
	if kept := 60 - oldest + 1; kept != keepRecords {
		t.Fatalf("%d epochs are kept, want %d", kept, keepRecords)
	}
	var have []v1alpha1.Failover
	for epoch := oldest; epoch <= 60; epoch++ {
		have = append(have, v1alpha1.Failover{Status: v1alpha1.FailoverStatus{Epoch: epoch}})
	}
	if again := oldestKept(have, reported); again != oldest {
		t.Errorf("with the records made the oldest kept is %d, without them %d: what one look makes the next deletes", again, oldest)
	}
}
