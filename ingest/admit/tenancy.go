package admit

import (
	"strings"

	"serin.dev/serin/internal/event"
)

// Claimed returns the tenancy that a W3C baggage header claims, by the member
// serin.tenancy or, as Uber's services have it, request-tenancy; production
// where it claims none, or one that is not known.
func Claimed(baggage string) event.Tenancy {
	most := event.Production
	for member := range strings.SplitSeq(baggage, ",") {
		member, _, _ = strings.Cut(member, ";") // properties
		key, value, _ := strings.Cut(member, "=")
		switch strings.TrimSpace(key) {
		case "serin.tenancy", "request-tenancy":
			if t, err := event.ParseTenancy(strings.TrimSpace(value)); err == nil {
				most = max(most, t)
			}
		}
	}
	return most
}
