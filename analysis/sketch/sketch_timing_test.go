package sketch

import (
	"math/rand/v2"
	"testing"
)

func BenchmarkHistogramAdd(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	values := make([]float64, 4096)
	for i := range values {
		values[i] = 1000 * rng.ExpFloat64()
	}
	h := NewHistogram()
	i := 0
	for b.Loop() {
		if err := h.Add(values[i%len(values)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkHLLAdd(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var h HLL
	for b.Loop() {
		h.Add(rng.Uint64())
	}
}

func BenchmarkHLLEstimate(b *testing.B) {
	h := sketchOf(0, 100_000)
	for b.Loop() {
		h.Estimate()
	}
}
