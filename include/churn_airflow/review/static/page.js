// The page within Airflow: it follows Airflow's theme, and opens its links in the surrounding window, which the sandboxed frame itself may not do.
(() => {
  const html = document.documentElement;
  const shell = window.parent === window ? null : window.parent.document;
  const follow = () => {
    const chosen = shell ? shell.documentElement : null;
    const theme = chosen ? chosen.style.colorScheme || (chosen.classList.contains("dark") ? "dark" : "light") : localStorage.getItem("theme");
    if (theme === "dark" || theme === "light") html.dataset.theme = theme;
  };
  follow();
  if (!shell) return;
  new MutationObserver(follow).observe(shell.documentElement, { attributes: true });

  const open = (link) => {
    const twin = shell.createElement("a");
    twin.href = link.href;
    twin.rel = "noopener noreferrer";
    if (link.target) twin.target = link.target;
    shell.body.append(twin);
    twin.click();
    twin.remove();
  };
  const openForm = (link) => {
    const script = shell.createElement("script");
    script.src = new URL("form.js", location.href).href;
    script.dataset.page = new URL(link.href).pathname;
    script.dataset.values = link.dataset.form;
    shell.head.append(script);
    script.remove();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.within, a.out");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.dataset.form === undefined) open(link);
    else openForm(link);
  });
})();
