package slo

import (
	"math"
	"time"
)

// A detector is a Shiryaev-Roberts procedure, in its form as a sum of e-processes
// that begin at each minute (Shin, Ramdas, Rinaldo: "E-detectors: a nonparametric
// framework for sequential change detection", 2022). While the bad rate is at most
// the tolerable one, the mean number of minutes to the first alarm is at least the
// threshold, however long it runs and whatever the traffic is.
type Detector struct {
	// Log is the natural logarithm of the detector of each alternative.
	Log [alternatives]float64
	Any bool // whether a minute with traffic was seen
}

const alternatives = 3

// detectorMinutes is the mean time between false alarms that is asked for, in
// minutes of traffic: ten years.
const detectorMinutes = 10 * 365.25 * 24 * 60

// logAlarm is the log e-value of an alarm.
var logAlarm = math.Log(detectorMinutes)

// memory is how far above the alarm a detector may rise: what ended long ago must
// not be what it still tells. It only makes alarms rarer.
const memory = 5

// settling is how many minutes after its end a minute is looked at: most of its
// events have come by then.
const settling = 1

// alternatives to the tolerable rate, as shares of the way from there to all bad.
var shares = [alternatives]float64{0.25, 0.6, 0.95}

// advance looks at the minutes that are over now and were not before.
func (d *Detector) advance(s *Series, rate float64, before, now int32) {
	from, to := before-settling, now-settling
	from = max(from, to-1440) // a day without rows says nothing minute by minute
	for i := find(s.Fine, from); i < len(s.Fine) && s.Fine[i].At < to; i++ {
		prev := s.before()
		if i > 0 {
			prev = s.Fine[i-1].Until
		}
		c := s.Fine[i].Until.minus(prev)
		d.look(c.Total, c.Capped, rate)
	}
}

// look takes in one minute of n units, of which k are bad.
func (d *Detector) look(n, k int64, rate float64) {
	if n <= 0 || k < 0 || k > n {
		return // units that moved away
	}
	for i, share := range shares {
		p := rate + share*(1-rate)
		gain := float64(k)*math.Log(p/rate) + float64(n-k)*math.Log((1-p)/(1-rate))
		sum := 0.0 // log(R + 1), where R is 0 before the first minute
		if d.Any {
			sum = max(d.Log[i], 0) + math.Log1p(math.Exp(-math.Abs(d.Log[i])))
		}
		d.Log[i] = min(sum+gain, logAlarm+math.Log(alternatives)+memory)
	}
	d.Any = true
}

// logE returns the log of the mean of the detectors; -Inf before there was traffic.
func (d *Detector) logE() float64 {
	if !d.Any {
		return math.Inf(-1)
	}
	most := math.Inf(-1)
	for _, l := range d.Log {
		most = max(most, l)
	}
	sum := 0.0
	for _, l := range d.Log {
		sum += math.Exp(l - most)
	}
	return most + math.Log(sum/alternatives)
}

// Tail returns P[X >= k] of a binomial X of n trials that succeed with
// probability p in (0,1), where k is above n p; else 1. It is summed from k up, to
// a relative 1e-15.
func Tail(n, k int64, p float64) float64 {
	if float64(k) <= float64(n)*p || k <= 0 {
		return 1
	}
	if k > n {
		return 0
	}
	lg := func(x int64) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	term := math.Exp(lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	sum := 0.0
	for i := k; i <= n; i++ {
		sum += term
		next := term * float64(n-i) / float64(i+1) * p / (1 - p)
		if next <= 1e-16*sum { // or all of it is too small to tell from 0
			break
		}
		term = next
	}
	return min(sum, 1)
}

// unlikely reports whether P[X >= k] of the binomial of [Tail] is below alpha. Where
// Chernoff's bound, exp(-n KL(k/n || p)), says so already nothing is summed.
func unlikely(n, k int64, p, alpha float64) bool {
	return surprise(n, k, p) > -math.Log(alpha) || Tail(n, k, p) < alpha
}

// surprise returns Chernoff's bound n KL(k/n || p) of -log P[X >= k] of the binomial of
// [Tail]: never more than that is, and 0 where k is not above n p.
func surprise(n, k int64, p float64) float64 {
	q := float64(k) / float64(n)
	switch {
	case k <= 0 || q <= p:
		return 0
	case k >= n:
		return -float64(n) * math.Log(p)
	}
	return float64(n) * (q*math.Log(q/p) + (1-q)*math.Log((1-q)/(1-p)))
}

// logChoose returns the log of the number of ways to choose k of n.
func logChoose(n, k int64) float64 {
	lg := func(x int64) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	return lg(n) - lg(k) - lg(n-k)
}

func dayOf(at int32) string { return time.Unix(int64(at)*60, 0).UTC().Format(time.DateOnly) }

func minutes(d time.Duration) int32 { return int32(d / time.Minute) }
