package evalue

import "math"

// Most of the cost of a cell is one logarithm for each node. A table and a
// short series, without branches, take a third of the time of math.Log.

const logBits = 8

// logTable holds, for each 256th of [1,2), the reciprocal of its middle and
// minus the log of that reciprocal as it was rounded.
var logTable = func() (table [1 << logBits]struct{ inverse, log float64 }) {
	for i := range table {
		inverse := 1 / (1 + (float64(i)+0.5)/(1<<logBits))
		table[i].inverse = inverse
		table[i].log = -math.Log(inverse)
	}
	return table
}()

// logs replaces each x by its natural log, to an absolute error of 4e-16 and a
// few roundings of the result. Each x must be a normal positive number.
func logs(x *[points]float64) {
	for i, v := range x {
		bits := math.Float64bits(v)
		entry := &logTable[bits>>(52-logBits)&(1<<logBits-1)]
		mantissa := math.Float64frombits(bits&(1<<52-1) | 1023<<52)
		// |r| is at most 1/512, and r^6/6 below 1e-17. The series is in pairs,
		// which a processor can work on at the same time.
		r := mantissa*entry.inverse - 1
		r2 := r * r
		series := r + r2*((-1./2+r*(1./3))+r2*(-1./4+r*(1./5)))
		x[i] = float64(int(bits>>52)-1023)*math.Ln2 + entry.log + series
	}
}

// logAddExp returns ln(exp(a) + exp(b)).
func logAddExp(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
