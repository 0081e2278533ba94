// What a tab's page keeps over a reload. No other tab has it, and nothing is kept of a page that is open.

const KEY = `kept ${location.pathname}${location.search}`;

/** Keep `values`, by name, for the next page that this tab opens at this address. */
export function keep(values) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(values));
  } catch {
    // The browser keeps nothing for this site.
  }
}

/** What was kept, {} if nothing was. */
export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

/** Keep it no longer: a tab that is duplicated takes what is kept along. */
export function forget() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}
