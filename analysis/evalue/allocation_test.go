package evalue

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// The published numbers are those of package ssrm (optimizely/ssrm,
// ssrm_test/test_ssrm_test.py, test_sequential_posteriors): the log marginal
// likelihoods of the mixture and of the plan (0.4, 0.4, 0.2), with a Dirichlet
// prior of (1, 1, 1), after each step.
func TestAllocationPublished(t *testing.T) {
	step := func(steps [][3]int64, mixture, plan []float64) {
		t.Helper()
		var n [3]int64
		for i, s := range steps {
			l, total := 0.0, int64(0)
			for arm := range n {
				n[arm] += s[arm]
				l += logRising(1, n[arm]) - float64(n[arm])*math.Log([]float64{0.4, 0.4, 0.2}[arm])
				total += n[arm]
			}
			if got, want := l-logRising(3, total), mixture[i]-plan[i]; math.Abs(got-want) > 1e-9 {
				t.Errorf("after %v: %.12f, published %.12f", n, got, want)
			}
		}
	}
	step([][3]int64{{1}, {0, 1}, {1}, {0, 1}, {0, 0, 1}},
		[]float64{-1.0986122886681096, -2.4849066497880004, -3.401197381662155, -4.499809670330265, -6.4457198193855785},
		[]float64{-0.916290731874155, -1.83258146374831, -2.748872195622465, -3.66516292749662, -5.27460083993072})
	step([][3]int64{{20, 17, 9}, {18, 21, 8}, {4, 6, 4}, {18, 19, 11}},
		[]float64{-7.028201432058012, -11.947847738358888, -15.471401950257842, -19.96484521090386},
		[]float64{-4.0776406466061985, -8.265946861099877, -11.610743519545139, -15.781031228536165})

	// The same by the type, where prior and plan are alike: by products of
	// the predictive probabilities, which is how a gambler would do it.
	a := NewAllocation([]float64{0.5, 0.3, 0.2}, 7)
	rng := rand.New(rand.NewPCG(1, 1))
	want, n := 0.0, [3]float64{}
	for i := range 500 {
		arm := rng.IntN(3)
		q := a.Plan[arm]
		want += math.Log((7*q + n[arm]) / (7 + float64(i)) / q)
		n[arm]++
		a.Add(arm, 1)
		if math.Abs(a.LogE()-want) > 1e-9 {
			t.Fatalf("after %v: %v, want %v", n, a.LogE(), want)
		}
	}
	a.Replan([]float64{0.2, 0.2, 0.6})
	if math.Abs(a.LogE()-want) > 1e-9 {
		t.Errorf("a change of plan alone changes the evidence to %v", a.LogE())
	}
}

// TestAllocationRates: a stage of 10 %, then one of 50 %, looked at after each
// 100 clients; and a loss in a stage of 50 %.
func TestAllocationRates(t *testing.T) {
	const rollouts, clients = 200, 50_000
	run := func(seed uint64, stage int, loss, alpha float64) float64 {
		stopped := 0
		for i := range rollouts {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			a := NewAllocation([]float64{0.9, 0.1}, Concentration)
			for n := 0; n < clients; n += 100 {
				if n == stage {
					a.Replan([]float64{0.5, 0.5})
				}
				var canary, baseline int64
				for range 100 {
					switch {
					case rng.Float64() >= a.Plan[1]:
						baseline++
					case rng.Float64() >= loss:
						canary++
					}
				}
				a.Add(0, baseline)
				a.Add(1, canary)
				if a.LogE() >= -math.Log(alpha) {
					stopped++
					break
				}
			}
		}
		return float64(stopped) / rollouts
	}
	atMost(t, "false mismatch", run(1, clients/10, 0, 0.05), 0.05, rollouts)
	found := run(2, 0, 0.05, 0.001)
	t.Logf("5 %% of the canary's clients silent, alpha 0.001: found in %.3f within %d assigned clients", found, clients)
	if found < 0.95 {
		t.Errorf("a loss of 5 %% is found in %.3f only", found)
	}
}

func TestAllocationShare(t *testing.T) {
	const runs, alpha = 200, 0.1
	missed := 0
	for i := range runs {
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		a := NewAllocation([]float64{0.5, 0.3, 0.2}, Concentration)
		for range 200 {
			for range 20 {
				// The plan is not kept: the interval is of the truth.
				a.Add(min(2, int(3*rng.Float64()*1.2)), 1)
			}
			if lo, hi := a.Share(2, alpha); lo > 1-2/3.6 || hi < 1-2/3.6 {
				missed++
				break
			}
		}
	}
	atMost(t, "shares that miss the truth at some time", float64(missed)/runs, alpha, runs)
	if lo, hi := NewAllocation([]float64{0.5, 0.5}, 10).Share(0, 0.05); lo != 0 || hi != 1 {
		t.Errorf("without clients the share is %v to %v", lo, hi)
	}
}

func BenchmarkAllocation(b *testing.B) {
	a := NewAllocation([]float64{0.9, 0.1}, Concentration)
	for i := range b.N {
		a.Add(i&1, 1)
		a.LogE()
	}
}

func ExampleAllocation() {
	a := NewAllocation([]float64{0.9, 0.1}, Concentration)
	a.Add(0, 90_000)
	a.Add(1, 9_500)
	lo, hi := a.Share(1, 0.01)
	fmt.Printf("evidence %.1f nats; the canary has %.4f to %.4f of the clients\n", a.LogE(), lo, hi)
	// Output: evidence 9.4 nats; the canary has 0.0921 to 0.0989 of the clients
}
