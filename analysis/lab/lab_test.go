package lab

import (
	"math"
	"math/rand/v2"
	"testing"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// TestEnginesAgree gives both engines the same draws of each world.
func TestEnginesAgree(t *testing.T) {
	for _, name := range WorldNames() {
		w, err := findWorld(name)
		if err != nil {
			t.Fatal(err)
		}
		w.copied = [2]float64{} // which outcomes cannot see
		w.cells = 30
		var logs [2][]verdict.Verdict
		for k, e := range []engine{newOutcomes(), &beacons{}} {
			for seed := range uint64(2) {
				p := play{world: w, rng: rand.New(rand.NewPCG(seed, 1)), harmed: session.Errors, ratio: 1.3}
				p.run(e, w.rules(nil), func(test *canary.Test, now int64) bool {
					logs[k] = append(logs[k], ask(test, now))
					return true
				})
			}
		}
		if len(logs[0]) != 60 || len(logs[1]) != 60 {
			t.Fatalf("%s: %d and %d looks", name, len(logs[0]), len(logs[1]))
		}
		for i := range logs[0] {
			a, b := &logs[0][i], &logs[1][i]
			for m := range a.Findings {
				x, y := a.Findings[m], b.Findings[m]
				if x.Sessions != y.Sessions || x.Failures != y.Failures || math.Abs(float64(x.LogEHarm-y.LogEHarm)) > 1e-9 || math.Abs(float64(x.LogESafe-y.LogESafe)) > 1e-9 {
					t.Fatalf("%s, look %d: %+v by outcomes, %+v by beacons", name, i, x, y)
				}
			}
			if a.Decision != b.Decision || a.LogERatio != b.LogERatio {
				t.Fatalf("%s, look %d: %s by outcomes, %s by beacons", name, i, a.Sentence, b.Sentence)
			}
		}
	}
}
