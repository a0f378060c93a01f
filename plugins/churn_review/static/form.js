// Runs in Airflow's own window: goes to a DAG, opens its trigger form and fills in what is known. A person reads it and submits.
(() => {
  const { page, values } = document.currentScript.dataset;
  const patience = 15000;
  const found = (choose, then, since = performance.now()) => {
    const element = choose();
    if (element) then(element);
    else if (performance.now() - since < patience) setTimeout(() => found(choose, then, since), 100);
  };
  const fill = ([name, value]) =>
    found(
      () => document.querySelector(`[role=dialog] [name="element_${name}"]`),
      (field) => {
        const input = field.matches("input, textarea") ? field : field.querySelector("input, textarea");
        const kind = input instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;
        Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(input, String(value));
        input.dispatchEvent(new Event("input", { bubbles: true }));
        input.dispatchEvent(new Event("blur", { bubbles: true }));
      },
    );
  history.pushState(null, "", page);
  dispatchEvent(new PopStateEvent("popstate", { state: null }));
  found(
    () => location.pathname === page && document.querySelector("[data-testid=trigger-dag-button]:not(:disabled)"),
    (button) => {
      button.click();
      Object.entries(JSON.parse(values)).forEach(fill);
    },
  );
})();
