package api

import (
	"net/http"

	"serin.dev/serin/analysis"
	"serin.dev/serin/internal/tenant"
)

func (a *API) releases(w http.ResponseWriter, _ *http.Request, e *analysis.Engine, ac tenant.Access) error {
	return write(w, http.StatusOK, map[string]any{"releases": e.Releases(ac.Tenant)})
}

func (a *API) setRelease(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		App     string `json:"app"`
		Release string `json:"release"`
		State   string `json:"state"`
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	now, err := e.SetRelease(r.Context(), ac.Tenant, ac.Token, body.App, body.Release, body.State)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, now)
}
