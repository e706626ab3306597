package api

import (
	"net/http"
	"strconv"

	"serin.dev/serin/analysis"
	"serin.dev/serin/internal/tenant"
)

func (a *API) quarantined(w http.ResponseWriter, _ *http.Request, _ *analysis.Engine, ac tenant.Access) error {
	return write(w, http.StatusOK, a.o.Held.Quarantined(ac.Tenant))
}

// quarantinedBody answers with the bytes themselves, as what they are: of no
// type, and not for a browser to show.
func (a *API) quarantinedBody(w http.ResponseWriter, r *http.Request, _ *analysis.Engine, ac tenant.Access) error {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	var body []byte
	ok := false
	if err == nil {
		body, ok = a.o.Held.QuarantinedBody(ac.Tenant, n)
	}
	if !ok {
		fail(w, http.StatusNotFound, "not_found", "no such entry")
		return nil
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", "attachment")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // a client that has gone is no error of ours
	return nil
}

func (a *API) release(w http.ResponseWriter, r *http.Request, _ *analysis.Engine, ac tenant.Access) error {
	if !a.o.Held.Release(ac.Tenant, r.PathValue("id")) {
		fail(w, http.StatusNotFound, "not_found", "no body of that fingerprint is quarantined")
		return nil
	}
	return write(w, http.StatusOK, map[string]string{"released": r.PathValue("id")})
}
