package canary

import (
	"math"
	"testing"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/verdict"
)

// TestTimes has ratios within what is estimated, at its ends, and of quantiles, which
// have none.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		ratio, lo, hi   float64
		lowest, highest float64
		want            string
	}{
		{3, 2, 5, evalue.MinEstimate, evalue.MaxEstimate, "3.0 times (2.0 to 5.0)"},
		{12, 3.7, math.Inf(1), evalue.MinEstimate, evalue.MaxEstimate, "12.0 times or more (at least 3.7)"},
		{evalue.MinEstimate, 0, 0.6, evalue.MinEstimate, evalue.MaxEstimate, "0.25 times or less (0.0 to 0.6)"},
		{15, 14, 17, 0, math.Inf(1), "15.0 times (14.0 to 17.0)"},
	} {
		e := verdict.Effect{Ratio: verdict.Bound(c.ratio), Lo: verdict.Bound(c.lo), Hi: verdict.Bound(c.hi)}
		if got := times(e, c.lowest, c.highest); got != c.want {
			t.Errorf("%v: %s, want %s", c.ratio, got, c.want)
		}
	}
}
