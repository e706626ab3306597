package event

import "fmt"

// Class is the request class of an event: what is shed first and last where
// the server is short of something. A numerator and its denominator are in the
// same class, so that shedding moves no ratio.
type Class uint8

// The classes, from the one that is shed last to the one that is shed first.
const (
	ClassAccounting Class = iota // exposures, drop reports: what everything else is divided by
	ClassCrash                   // crashes, ANRs, unhandled errors
	ClassVital                   // vitals, app starts, sessions, views
	ClassError                   // handled errors, requests, custom metrics and events
	ClassResource                // resources, long tasks, logs, and all traffic that is not production
	Classes                      // how many classes there are
)

var classNames = [Classes]string{"accounting", "crash", "vital", "error", "resource"}

// String returns the class as headers and metrics spell it.
func (c Class) String() string {
	if c < Classes {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// ShedCause is what the names of drop rows begin with that stand for events
// that the edge shed; the class follows.
const ShedCause = "shed/"

// ShareKey is the attribute of an event of which not all are kept or sent: the
// probability with which this one was, by which estimates are weighted.
const ShareKey = "serin.share"

// NameLog is the name of an event that is a line of a client's log.
const NameLog = "log"

// ClassOf returns the class of an event of traffic of a tenancy.
func ClassOf(t Tenancy, o *One) Class {
	if t != Production {
		return ClassResource
	}
	switch o.Kind {
	case Exposure, Drop:
		return ClassAccounting
	case Crash, ANR:
		return ClassCrash
	case Error:
		if o.Flag("handled") {
			return ClassError
		}
		return ClassCrash
	case Vital, Start, Session, View:
		return ClassVital
	case Event:
		if o.Name == NameLog {
			return ClassResource
		}
		return ClassError
	case Request, NetFail, Metric:
		return ClassError
	}
	return ClassResource
}
