package admin

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds how many requests gather metrics at once.
const maxScrapes = 4

// newHandler lays out the paths.
func newHandler(opts Options, log *slog.Logger) http.Handler {
	paths := []string{"/livez", "/readyz", "/readyz?verbose", "/metrics"}
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", serveLive)
	mux.Handle("/readyz", readyHandler(opts.Ready))
	mux.Handle("/metrics", metricsHandler(opts.Gatherer, log))
	paths = append(paths, addAPI(mux, opts.API, log)...)
	if opts.Pprof {
		paths = append(paths, "/debug/pprof/")
		addPprof(mux)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "nothing at %.100q; there are %s\n", r.URL.Path, strings.Join(paths, " "))
	})
	return guarded(mux, BackupsPath)
}

// guarded lets GET and HEAD through, and POST to the paths named, unless a page of
// another site makes a browser send it. It sets what every reply carries: plain
// text, never guessed at and never cached. A handler may set another type.
func guarded(next http.Handler, posts ...string) http.Handler {
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		post := r.Method == http.MethodPost && slices.Contains(posts, r.URL.Path)
		if r.Method != http.MethodGet && r.Method != http.MethodHead && !post {
			h.Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			fmt.Fprintln(w, "only GET and HEAD are answered here")
			return
		}
		if err := foreign.Check(r); err != nil {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintln(w, "a page of another site may not ask this")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func serveLive(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

// readyHandler answers 200 when every check is OK, degraded or not. Without
// verbose only what is wrong is listed.
func readyHandler(ready func() []Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var checks []Check
		if ready != nil {
			checks = ready()
		}
		ok := allOK(checks)
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		writeChecks(w, checks, r.URL.Query().Has("verbose"))
		if ok {
			fmt.Fprintln(w, "ok")
			return
		}
		fmt.Fprintln(w, "not ready")
	})
}

func allOK(checks []Check) bool {
	for _, c := range checks {
		if !c.OK {
			return false
		}
	}
	return true
}

// writeChecks writes a line for each check, or for each one that is not well.
func writeChecks(w io.Writer, checks []Check, verbose bool) {
	for _, c := range checks {
		if verbose || !c.OK || c.Degraded {
			fmt.Fprintln(w, c.line())
		}
	}
}

// line says how the check stands, in one line whatever the detail holds.
func (c Check) line() string {
	switch {
	case !c.OK:
		return "[-]" + oneLine(c.Name) + " failed: " + oneLine(c.Detail)
	case c.Degraded:
		return "[!]" + oneLine(c.Name) + " degraded: " + oneLine(c.Detail)
	default:
		return "[+]" + oneLine(c.Name) + " ok"
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// metricsHandler serves what could be gathered even when a collector fails: an
// operator needs the other figures most when something is broken.
func metricsHandler(g prometheus.Gatherer, log *slog.Logger) http.Handler {
	if g == nil {
		g = prometheus.Gatherers{}
	}
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

func addPprof(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}
