package evalue_test

import (
	"fmt"
	"math"

	"serin.dev/serin/analysis/evalue"
)

// A canary with a tenth of the sessions has three times the failures.
func ExampleGrid() {
	g := evalue.NewGrid()
	var m evalue.Marks
	const share, alpha = 0.1, 0.01
	fmt.Printf("a tripling needs about %.0f failures\n", evalue.MarksNeeded(share, 3, alpha))
	for minute := 1; ; minute++ {
		g.AddCell(&m, 1, 3, share) // of each four failures one is the canary's
		if g.Harm(m) >= -math.Log(alpha) {
			lo, hi := g.Interval(m, 0.05)
			fmt.Printf("harm after %d failures; the ratio is about %.1f, and between %.1f and %.1f\n", m.Canary+m.Baseline, g.Estimate(m), lo, hi)
			break
		}
	}
	// Output:
	// a tripling needs about 50 failures
	// harm after 60 failures; the ratio is about 3.0, and between 1.0 and 7.3
}

// Two histograms with buckets of 9 %: the canary is slower by some buckets.
func ExampleQuantile() {
	baseline := []int64{0, 400, 900, 700, 300, 100, 40, 10, 0, 0}
	canary := []int64{0, 0, 40, 90, 70, 30, 10, 4, 1, 0}
	p75 := evalue.NewQuantile(0.75, 1000)
	lo, hi := p75.Shift(baseline, canary, 0.05)
	fmt.Printf("evidence %.1f nats; the canary's p75 is %d to %d buckets higher\n", p75.Evidence(baseline, canary, evalue.Higher, 0), lo, hi)
	// Output:
	// evidence 16.6 nats; the canary's p75 is 1 to 2 buckets higher
}
