package verdict

import (
	"math"
	"testing"
)

func TestLeft(t *testing.T) {
	for left, want := range map[float64]string{1: "100.0 %", 0.1234: "12.3 %", -0.5: "-50.0 %", -23.98: "-2398 %", math.Inf(-1): "-", math.NaN(): "-"} {
		if got := (&Budget{Remaining: Bound(left)}).Left(); got != want {
			t.Errorf("%v: %q, want %q", left, got, want)
		}
	}
}
