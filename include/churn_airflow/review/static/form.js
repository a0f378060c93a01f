// Runs in Airflow's own window: opens the trigger form of a DAG and prefills it. A person checks the form and submits it.
(() => {
  const { page, values } = document.currentScript.dataset;
  const patience = 15000;
  const pause = 500; // the form is visible shortly before it reacts
  const whenPresent = (choose, then, since = performance.now()) => {
    const element = choose();
    if (element) then(element);
    else if (performance.now() - since < patience) setTimeout(() => whenPresent(choose, then, since), pause);
  };
  const enter = (input, value) => {
    const kind = input instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;
    input.focus();
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(input, String(value));
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.blur();
  };
  const fill = ([name, value]) => {
    const field = () => document.querySelector(`[role=dialog] [name="element_${name}"]`);
    const unfolded = () => {
      const trigger = field()?.closest("[data-part=item]")?.querySelector("[data-part=item-trigger]");
      if (trigger && trigger.dataset.state === "closed") {
        trigger.focus(); // it reacts to a click only if it has the focus
        trigger.click();
      }
      return field()?.checkVisibility() && field();
    };
    whenPresent(unfolded, () => setTimeout(() => enter(field(), value), pause));
  };
  history.pushState(null, "", page);
  dispatchEvent(new PopStateEvent("popstate", { state: null }));
  whenPresent(
    () => location.pathname === page && document.querySelector("[data-testid=trigger-dag-button]:not(:disabled)"),
    (button) => {
      button.click();
      Object.entries(JSON.parse(values)).forEach(fill);
    },
  );
})();
