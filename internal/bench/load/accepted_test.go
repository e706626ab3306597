package load

import (
	"testing"

	"serin.dev/serin/internal/bench/wire"
)

func TestTaken(t *testing.T) {
	for _, c := range []struct {
		status         int
		body           string
		accepted, shed int64
	}{
		{202, `{"accepted":7,"rejected":[]}`, 7, 0},
		{202, `{"accepted":7,"rejected":[],"shed":3}`, 7, 3},
		{202, `{"accepted":0,"rejected":[]}`, 0, 0},
		{200, `{}`, 10, 0},
		{200, "", 10, 0},
		{204, "", 10, 0},
		{200, `{"partialSuccess":{"rejectedLogRecords":"4","errorMessage":"x"}}`, 6, 0},
		{400, `{"error":{"reason":"json"}}`, 0, 0},
		{503, "", 0, 0},
	} {
		a := wire.Answer{Status: c.status, Body: []byte(c.body)}
		if accepted, shed := taken(&a, 10); accepted != c.accepted || shed != c.shed {
			t.Errorf("%d %s: %d accepted and %d shed of 10, want %d and %d", c.status, c.body, accepted, shed, c.accepted, c.shed)
		}
	}
}
